"""Runs operators: which there are, how one is run, and that nothing of it is left."""
