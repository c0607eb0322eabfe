"""What decoding one clip may take by default: time and memory."""

DEADLINE_SECONDS = 60.0
"""Seconds, where the processor is the decoder's own."""

MEMORY_LIMIT_BYTES = 4 << 30
"""Data memory of a decoder process. Decoding 1080p takes some 0.2 GB, 2160p twice that."""
