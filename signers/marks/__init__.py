"""The double-sign rule, and the store that keeps high watermarks on disk."""
