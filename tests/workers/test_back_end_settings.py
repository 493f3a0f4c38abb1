"""From forgepool.toml to back-ends: limits, certificates, and who we say we are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.config import load_settings
from broker.errors import Misconfigured
from signers.backends.backend import BackEnd, SignerRejected
from signers.backends.http_signer import WrongTlsFile
from signers.backends.key_uri import HttpKey, Pkcs11Key, TcpKey, UnixKey
from signers.backends.signer_environment import WrongHttpHeaders
from signers.errors import SignersError
from signers.formats.networks import MAVRYK
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import UnknownKey
from signers.pkcs11.token_errors import ModuleMissing
from tests.signers.signer_server import SignerServer
from workers.back_end_settings import BackEndMaker
from workers.bulkhead import Limits
from workers.key_source import DelayedKey, DeviceKey, Source

ALICE, CLIENT = (SecretKey(bytes([i]) * 32) for i in (1, 2))
A = ALICE.public_key.hash(MAVRYK)


def client_key(name: str) -> SecretKey:
    if name != "client":
        raise UnknownKey(f"no {name}")
    return CLIENT


def a_maker(tmp_path: Path, toml: str, **environment: str) -> BackEndMaker:
    (tmp_path / "forgepool.toml").write_text(toml)
    return BackEndMaker(load_settings(tmp_path).signers, environment, client_key, lambda *_: None)


def test_limits_of_one_back_end_go_before_those_of_all(tmp_path: Path) -> None:
    maker = a_maker(
        tmp_path,
        "[signers]\nconcurrency = 3\ntime_limit_s = 1.5\n"
        '[signers.back_ends."http://h:6732"]\nconcurrency = 1\nopen_s_max = 60.0\nqueue = 7\n',
    )
    assert maker.limits("tcp://h:1") == Limits(concurrency=3, time_limit_s=1.5)
    assert maker.limits("http://h:6732") == Limits(1, 7, 1.5, 60.0)


def test_without_settings_the_defaults_hold(tmp_path: Path) -> None:
    assert a_maker(tmp_path, "").limits("tcp://h:1") == Limits()


def test_a_played_device_serves_one_at_a_time(tmp_path: Path) -> None:
    source = DelayedKey(A, 5, ALICE)
    assert a_maker(tmp_path, "").limits(source.authority).concurrency == 1


def test_a_ledger_has_time_for_a_person_and_others_if_it_is_said(tmp_path: Path) -> None:
    toml = '[signers.back_ends."http://h:6732"]\nperson_limit_s = 30\n'
    maker = a_maker(tmp_path, toml)
    assert maker.limits("ledger:d") == Limits(concurrency=1, person_limit_s=120.0)
    assert maker.limits("http://h:6732").person_limit_s == 30.0
    assert maker.limits("tcp://h:1").person_limit_s is None
    assert a_maker(tmp_path, "[signers]\nperson_limit_s = 45\n").limits("ledger:d") == Limits(
        concurrency=1, person_limit_s=45.0
    )


def test_a_module_takes_one_call_at_a_time_whatever_is_set(tmp_path: Path) -> None:
    authority = "pkcs11:token=t?module-path=/m.so"
    toml = f'[signers]\nconcurrency = 8\n[signers.back_ends."{authority}"]\nqueue = 7\n'
    assert a_maker(tmp_path, toml).limits(authority) == Limits(concurrency=1, queue=7)


def test_a_token_without_its_module_is_said_when_it_is_first_needed(tmp_path: Path) -> None:
    maker = a_maker(tmp_path, "", FORGEPOOL_PKCS11_MODULE="/nowhere.so")
    with pytest.raises(ModuleMissing, match=r"/nowhere\.so"):
        maker.make(DeviceKey(A, Pkcs11Key(token="t", object="o")))


@pytest.mark.parametrize(
    "line",
    [
        "time_limit_s = 0",
        "time_limit_s = 9",
        "person_limit_s = 0",
        "person_limit_s = 601",
        "concurrency = 0",
        "queue = 0",
        "tries = 4",
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(Misconfigured):
        a_maker(tmp_path, f"[signers]\n{line}\n")


@pytest.fixture
def server() -> Iterator[SignerServer]:
    with SignerServer([ALICE], authorized=[CLIENT.public_key]) as server:
        yield server


def sign(back_end: BackEnd) -> bytes:
    try:
        return back_end.sign(ALICE.public_key, A, b"\x03message", 20.0)
    finally:
        back_end.close()


@pytest.mark.process
def test_each_kind_of_source_gets_a_client_that_shows_who_it_is(
    tmp_path: Path, server: SignerServer
) -> None:
    host, port = server.tcp_address
    sources: tuple[Source, ...] = (
        HttpKey(server.http, A),
        TcpKey(host, port, A),
        UnixKey(server.unix_path, A),
    )
    for source in sources:
        maker = a_maker(
            tmp_path, f'[signers.back_ends."{source.authority}"]\nauthentication_key = "client"\n'
        )
        assert ALICE.public_key.verify(b"\x03message", sign(maker.make(source)))
        with pytest.raises(SignerRejected):
            sign(a_maker(tmp_path, "").make(source))


@pytest.mark.parametrize(
    ("toml", "environment", "error"),
    [
        ('authentication_key = "nobody"', {}, UnknownKey),
        ('authorities = "/nowhere/ca.pem"', {}, WrongTlsFile),
        ('certificate = "/nowhere/our.pem"', {}, WrongTlsFile),
        ("", {"TEZOS_SIGNER_HTTP_HEADERS": "cookie: 1"}, WrongHttpHeaders),
    ],
)
def test_what_does_not_work_is_said_when_the_back_end_is_first_needed(
    tmp_path: Path, toml: str, environment: dict[str, str], error: type[SignersError]
) -> None:
    maker = a_maker(tmp_path, f"[signers]\n{toml}\n", **environment)
    with pytest.raises(error):
        maker.make(HttpKey("https://h:443", A))
