"""Bytes of Mavryk and Tezos: texts, hashes, headers, operations, requests to sign. All pure."""
