"""Policy: which key may sign what, for whom."""
