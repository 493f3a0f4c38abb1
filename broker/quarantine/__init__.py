"""The quarantine: what the network sends is held, verified, released or reported.

`quarantine.py` is the state machine, the other files are its nouns. All of them are pure.
"""
