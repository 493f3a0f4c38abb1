"""What the gateway counts."""

from __future__ import annotations

from signers.keyring.curve import Curve
from workers.gateway.answers import Denial, PublicKeyText, Signature
from workers.gateway.tally import TIMES_KEPT, TOLD_EVERY_S, Tally


def test_answers_are_counted_by_their_outcome() -> None:
    tally = Tally()
    assert tally.numbers() == {}
    tally.ended(Signature(bytes(64), Curve.ED25519), 0.002)
    tally.ended(PublicKeyText("edpk"))
    for status, code in ((403, "not_authenticated"), (403, "policy"), (413, "too_large")):
        tally.ended(Denial(status, code, "no"))
    assert tally.numbers() == {
        "answered": 1, "denied_403": 2, "denied_413": 1, "not_authenticated": 1, "signed": 1,
        "too_large": 1, "p50_us": 2_000, "p99_us": 2_000,
    }  # fmt: skip


def test_percentiles_are_of_the_newest_times() -> None:
    tally, signature = Tally(), Signature(bytes(64), Curve.ED25519)
    for _ in range(10):
        tally.ended(signature, 9_999.0)
    for n in range(TIMES_KEPT):
        tally.ended(signature, n / 100)
    numbers = tally.numbers()
    assert (numbers["p50_us"], numbers["p99_us"]) == (10_240_000, 20_270_000)


def test_the_log_gets_a_line_once_a_minute_when_something_happened() -> None:
    tally = Tally()
    assert not tally.is_to_be_told(0.0)
    tally.ended(PublicKeyText("edpk"))
    assert tally.is_to_be_told(1.0)
    assert not tally.is_to_be_told(2.0)
    tally.ended(PublicKeyText("edpk"))
    assert not tally.is_to_be_told(2.0)
    assert tally.is_to_be_told(1.0 + TOLD_EVERY_S)


def test_refused_connections_are_counted_and_warned_of_once_a_minute() -> None:
    tally = Tally()
    assert [tally.connection_refused(at) for at in (0.0, 1.0, TOLD_EVERY_S)] == [True, False, True]
    assert tally.numbers() == {"connections_refused": 3}
