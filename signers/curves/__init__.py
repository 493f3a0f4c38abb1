"""The signature schemes of Tezos and Mavryk: raw bytes in, raw bytes out.

Each curve has the same few functions: `key_pair` opens a secret key, `verify` checks a
signature. Texts, hashes of keys and networks are `signers.keyring.keys`' business.
"""
