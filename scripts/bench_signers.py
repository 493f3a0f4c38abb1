"""What the curves cost: signing through the pool and verifying, against the bare libraries.

bare      as many processes as cores that do nothing but call the library
sign      durable votes through a whole pool of such keys, as `bench votes` counts them
verify    `PublicKey.verify` in as many processes as cores; the pool itself verifies nothing yet
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from typing import Any, Protocol

import coincurve
import pyblst
from coincurve.ecdsa import cdata_to_der, deserialize_compact
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from signers.formats.hashes import blake2b_32
from signers.formats.networks import BlsScheme
from signers.keyring.curve import CURVES_BY_NAME, Curve
from signers.keyring.keys import SecretKey

CORES = os.cpu_count() or 1
SECRET = bytes(31) + b"\7"
MESSAGE = bytes(range(78))  # as long as the vote of a tz4 key
DIGEST = blake2b_32(MESSAGE)
CALLS_PER_LOOK = 16  # at the clock: half a millisecond of the quickest
SPAWN = get_context("spawn")

VOTES_PER_REQUEST = 64
DELEGATES = 1024
# Votes under way: 10 to 50 ms of signing, so that no worker waits for the client, and the last
# ones, when one worker may be done before the other, weigh little.
VOTES_UNDER_WAY = {"ed25519": 2048, "secp256k1": 1024, "p256": 1024, "bls": 256}

Call = Callable[[], object]


class VotingPool(Protocol):
    """What `bench.Pool` can do."""

    def votes_per_s(self, batch: int, seconds: float, *, outstanding: int) -> float: ...


# Starts a pool with so many workers, so many keys, of a curve.
StartPool = Callable[[int, int, str], AbstractContextManager[VotingPool]]


def _ed25519() -> tuple[Call, Call]:
    public_key, secret = crypto_sign_seed_keypair(SECRET)
    signed = crypto_sign(DIGEST, secret)
    return lambda: crypto_sign(DIGEST, secret), lambda: crypto_sign_open(signed, public_key)


def _secp256k1() -> tuple[Call, Call]:
    key = coincurve.PrivateKey(SECRET)
    public_key = key.public_key
    der = cdata_to_der(deserialize_compact(key.sign_recoverable(DIGEST, hasher=None)[:64]))
    return (
        lambda: key.sign_recoverable(DIGEST, hasher=None),
        lambda: public_key.verify(der, DIGEST, hasher=None),
    )


def _p256() -> tuple[Call, Call]:
    digest = Prehashed(SHA256())
    sign_by, verify_by = ec.ECDSA(digest, deterministic_signing=True), ec.ECDSA(digest)
    key = ec.derive_private_key(int.from_bytes(SECRET), ec.SECP256R1())
    public_key, der = key.public_key(), key.sign(DIGEST, sign_by)
    return lambda: key.sign(DIGEST, sign_by), lambda: public_key.verify(der, DIGEST, verify_by)


def _bls() -> tuple[Call, Call]:
    tag = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
    scalar = int.from_bytes(SECRET)
    generator = pyblst.BlstP1Element().uncompress(
        SecretKey((1).to_bytes(32, "little"), Curve.BLS).public_key.raw
    )
    zero, public_key = pyblst.BlstP2Element(), generator.scalar_mul(scalar)

    def sign() -> bytes:
        return zero.hash_to_group(MESSAGE, tag).scalar_mul(scalar).compress()

    signature = sign()

    def verify() -> bool:
        point, hashed = zero.uncompress(signature), zero.hash_to_group(MESSAGE, tag)
        return pyblst.final_verify(
            pyblst.miller_loop(generator, point), pyblst.miller_loop(public_key, hashed)
        )

    return sign, verify


_LIBRARIES = {"ed25519": _ed25519, "secp256k1": _secp256k1, "p256": _p256, "bls": _bls}


def _per_s(call: Call, seconds: float) -> float:
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        for _ in range(CALLS_PER_LOOK):
            call()
        count += CALLS_PER_LOOK
    return count / taken


def _bare_sign(curve: str, seconds: float) -> float:
    sign, _ = _LIBRARIES[curve]()
    return _per_s(sign, seconds)


def _bare_verify(curve: str, seconds: float) -> float:
    _, verify = _LIBRARIES[curve]()
    return _per_s(verify, seconds)


def _our_verify(curve: str, seconds: float) -> float:
    scheme = BlsScheme.POSSESSION
    key = SecretKey(SECRET, CURVES_BY_NAME[curve], scheme)
    verify, signature = key.public_key.verify, key.sign(MESSAGE, DIGEST)
    assert verify(MESSAGE, signature, scheme)
    return _per_s(lambda: verify(MESSAGE, signature, scheme), seconds)


def measure_signers(seconds: float, rounds: int, start_pool: StartPool) -> dict[str, Any]:
    """Signing and verifying by curve: rates, and the ratios to the bare library."""
    with ProcessPoolExecutor(CORES, mp_context=SPAWN) as processes:

        def on_all_cores(measure: Callable[[str, float], float], curve: str) -> float:
            return sum(processes.map(measure, [curve] * CORES, [seconds / 2] * CORES))

        list(processes.map(_bare_sign, ["bls"] * CORES, [0.1] * CORES))
        return {
            curve: _measure_curve(curve, seconds, rounds, start_pool, on_all_cores)
            for curve in _LIBRARIES
        }


def _measure_curve(
    curve: str,
    seconds: float,
    rounds: int,
    start_pool: StartPool,
    on_all_cores: Callable[[Callable[[str, float], float], str], float],
) -> dict[str, float]:
    sign, bare_sign, verify, bare_verify = [], [], [], []
    under_way = VOTES_UNDER_WAY[curve]
    with start_pool(CORES, DELEGATES, curve) as pool:
        pool.votes_per_s(VOTES_PER_REQUEST, 1.0, outstanding=under_way)
        for _ in range(rounds):
            before = on_all_cores(_bare_sign, curve)
            sign.append(pool.votes_per_s(VOTES_PER_REQUEST, seconds, outstanding=under_way))
            bare_sign.append((before + on_all_cores(_bare_sign, curve)) / 2)
            before = on_all_cores(_bare_verify, curve)
            verify.append(on_all_cores(_our_verify, curve))
            bare_verify.append((before + on_all_cores(_bare_verify, curve)) / 2)
    return {
        "sign_per_s": statistics.median(sign),
        "bare_sign_per_s": statistics.median(bare_sign),
        "sign_ratio": statistics.median(s / b for s, b in zip(sign, bare_sign, strict=True)),
        "verify_per_s": statistics.median(verify),
        "bare_verify_per_s": statistics.median(bare_verify),
        "verify_ratio": statistics.median(v / b for v, b in zip(verify, bare_verify, strict=True)),
    }
