"""Stage one (backbones to cache) and stage two (cache to trained heads). torch is imported only where it is needed."""
