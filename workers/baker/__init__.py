"""The baker: an automaton that watches a node and asks the pool for votes and blocks."""
