"""Signers that are elsewhere: behind HTTP, a TCP or Unix socket, on a device."""
