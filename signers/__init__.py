"""Formats, keys and the watermark store: what must be right for a signature to be safe."""
