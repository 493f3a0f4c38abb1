"""The on-chain controller, which says which applications are ours."""
