"""`avpipe bench train`: what a training step costs here, with a cache and without, each row in a process of its own."""
