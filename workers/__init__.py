"""Forges, validates, verifies and runs operators: the processes that do the work."""
