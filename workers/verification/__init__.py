"""Checks of blocks and votes from the network, and the evidence of double signing."""
