"""Real clients' bytes through a real gateway into a real pool, and what the pool says of them."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from hashlib import blake2b

import pytest
from gateway_process import (
    GatewayProcess,
    attestation,
    call_on,
    exchange,
    is_closed,
    make_certificate,
    receive_exactly,
)
from pool_process import CHAIN, PoolProcess, batch, noop, until

from broker.client import Watcher
from broker.messages import Event
from signers.formats.networks import MAVRYK
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey, write_signature
from tests.workers.worker_script import a_header

pytestmark = pytest.mark.process

ALICE = SecretKey(bytes(range(32)))  # a test key: a client that may ask


@pytest.fixture(scope="module")
def gateway(running: PoolProcess) -> GatewayProcess:
    """A gateway of a running pool, for tests that leave both as they were."""
    found = GatewayProcess(running, "--allow-list-known-keys")
    found.start()
    return found


@pytest.fixture
def strict(running: PoolProcess) -> Iterator[GatewayProcess]:
    """A gateway that wants to know who asks: ALICE may."""
    authorized = running.state_dir / "keys" / "authorized_keys"
    authorized.write_text(json.dumps([{"name": "alice", "value": ALICE.public_key.text()}]))
    found = GatewayProcess(running, "--require-authentication")
    found.unix_path += "2"
    found.start()
    yield found
    assert found.process is not None
    found.process.terminate()
    found.process.wait()
    authorized.unlink()


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def block(level: int, content: int = 1) -> bytes:
    """A block header to sign, watermark included; other content, another block at its place."""
    return b"\x11" + CHAIN + a_header(level=level, content=content)


# -- HTTP -----------------------------------------------------------------------------------------


def test_an_octez_client_signs_over_http(gateway: GatewayProcess) -> None:
    """The calls of octez-baker for each vote: authorized keys, sign, and once the public key."""
    key = gateway.pool.keys[0]
    assert gateway.call("GET", "/authorized_keys")[:2] == (200, {})
    data = attestation(batch(gateway.pool.next_level()))
    octez = "application/json, application/bson, application/octet-stream"
    target = f"/keys/{key.key_hash}?version=1"
    answer = gateway.call("POST", target, f'"{data.hex()}"', Accept=octez)
    assert key.has_signed_bytes(data, answer.signature)
    found = gateway.call("GET", f"/keys/{key.key_hash}", Accept=octez)
    assert found[:2] == (200, {"public_key": key.public_key})


def test_an_identical_repeat_is_answered_identically(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[0]
    data = attestation(batch(gateway.pool.next_level()))
    answers = {gateway.sign(key_hash, data).signature for _ in range(4)}
    assert len(answers) == 1


def test_conflicting_and_lower_votes_are_409(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[0]
    level = gateway.pool.next_level()
    assert gateway.sign(key_hash, attestation(batch(level))).status == 200
    conflicting = gateway.sign(key_hash, attestation(batch(level, content="another")))
    assert conflicting.status == 409
    assert conflicting.message.startswith("watermark_conflict: ")
    lower = gateway.sign(key_hash, attestation(batch(level - 1, content="lower")))
    assert lower.status == 409
    assert lower.message.startswith("watermark_below: ")
    assert str(level) in lower.message
    # What was signed before is still answered.
    assert gateway.sign(key_hash, attestation(batch(level))).status == 200


def test_a_block_header_is_signed_once_at_its_level_over_http(gateway: GatewayProcess) -> None:
    key, level = gateway.pool.keys[4], gateway.pool.next_level()
    data = block(level)
    first = gateway.sign(key.key_hash, data)
    assert key.has_signed_bytes(data, first.signature)
    assert gateway.sign(key.key_hash, data).body == first.body
    other = gateway.sign(key.key_hash, block(level, content=2))
    assert (other.status, other.message.partition(":")[0]) == (409, "watermark_conflict")
    lower = gateway.sign(key.key_hash, block(level - 1))
    assert (lower.status, lower.message.partition(":")[0]) == (409, "watermark_below")
    assert gateway.sign(key.key_hash, data).body == first.body


def test_a_block_header_is_signed_once_at_its_level_over_a_socket(gateway: GatewayProcess) -> None:
    key, level = gateway.pool.keys[5], gateway.pool.next_level()

    def sign(data: bytes) -> bytes:
        return b"\x00" + tagged_hash(key.key_hash) + len(data).to_bytes(4) + data

    with gateway.tcp() as tcp, gateway.unix() as unix:
        first = exchange(tcp, sign(block(level)))
        assert key.has_signed_bytes(block(level), first[1:])
        assert exchange(unix, sign(block(level))) == first
        for data, code in (
            (block(level, content=2), b"watermark_conflict: "),
            (block(level - 1), b"watermark_below: "),
        ):
            refused = exchange(tcp, sign(data))
            assert refused[0] == 1
            assert code in refused
        assert exchange(tcp, sign(block(level))) == first


def test_other_ends_have_the_codes_that_clients_know(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[0]
    other_chain = b"\x13\x00\x00\x00\x01" + attestation(batch(gateway.pool.next_level()))[5:]
    assert gateway.sign(key_hash, other_chain).status == 403
    unknown = gateway.sign("mv1FB775BsnzapSCHxv6qf7W3PgA54G32vX1", noop("x"))
    assert unknown.status == 404
    assert unknown.message.startswith("unknown_key: ")
    assert gateway.sign(key_hash, b"\x13" * 40).status == 400
    assert gateway.call("GET", "/nowhere").status == 404
    body = '"' + "00" * 70_000 + '"'
    assert gateway.call("POST", f"/keys/{key_hash}", body).status == 413


def test_a_disabled_key_is_403_and_signs_once_it_is_enabled(gateway: GatewayProcess) -> None:
    pool, key_hash = gateway.pool, gateway.pool.delegates[5]
    data = attestation(batch(pool.next_level()))
    pool.run("keys", "disable", key_hash)
    assert gateway.sign(key_hash, data).status == 403
    pool.run("keys", "enable", key_hash, "--yes")
    assert gateway.sign(key_hash, data).status == 200


def test_keys_are_listed_where_that_is_allowed(gateway: GatewayProcess) -> None:
    answer = gateway.call("GET", "/known_keys")
    assert answer.status == 200
    assert sorted(answer.body["known_keys"]) == sorted(gateway.pool.delegates)


def test_health(gateway: GatewayProcess) -> None:
    assert gateway.call("GET", "/livez")[:2] == (200, {"ready": True})
    until(lambda: gateway.call("GET", "/readyz").status == 200, what="a pool that hears us")


def test_many_clients_at_once_each_get_their_own_signature(gateway: GatewayProcess) -> None:
    """Sixty-four connections that stay open, four repeats of each request among them."""
    pool = gateway.pool
    found: list[tuple[int, int, bytes]] = []

    def client(number: int) -> None:
        connection = gateway.connection()
        for turn in range(8):
            key = pool.keys[number % len(pool.keys)]
            data = noop(f"{number // 4} {turn}")
            answer = call_on(connection, "POST", f"/keys/{key.key_hash}", f'"{data.hex()}"')
            assert key.has_signed_bytes(data, answer.signature)
            found.append((number, turn, answer.signature))
        connection.close()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 64 * 8


# -- sockets --------------------------------------------------------------------------------------


def test_an_octez_client_signs_over_tcp_and_unix_sockets(gateway: GatewayProcess) -> None:
    key = gateway.pool.keys[1]
    for opened in (gateway.tcp, gateway.unix):
        with opened() as connection:
            assert exchange(connection, b"\x02") == b"\x00\x00"  # nobody needs to authenticate
            data = attestation(batch(gateway.pool.next_level()))
            sign = b"\x00" + tagged_hash(key.key_hash) + len(data).to_bytes(4) + data
            answer = exchange(connection, sign)
            assert answer[0] == 0
            assert key.has_signed_bytes(data, answer[1:])
            assert exchange(connection, sign) == answer
            public_key = exchange(connection, b"\x01" + tagged_hash(key.key_hash))
            assert public_key[:2] == b"\x00\x00"
            assert len(public_key) == 34


def test_the_frames_of_the_protocol_byte_by_byte(gateway: GatewayProcess) -> None:
    """Frames as octez-signer's clients send them; the answers in hex."""
    with gateway.tcp() as connection:
        connection.sendall(bytes.fromhex("000102"))
        assert receive_exactly(connection, 4).hex() == "00020000"
        tagged = tagged_hash(gateway.pool.delegates[0])
        connection.sendall(bytes.fromhex("0016" + "05") + tagged)
        assert receive_exactly(connection, 4).hex() == "00020000"  # no deterministic nonces
        connection.sendall(bytes.fromhex("000106"))
        count = len(gateway.pool.keys)
        length, kind, size = 1 + 4 + 21 * count, 0, 21 * count
        head = receive_exactly(connection, 7)
        assert head == length.to_bytes(2) + bytes([kind]) + size.to_bytes(4)
        listed = receive_exactly(connection, size)
        assert {listed[i : i + 21] for i in range(0, size, 21)} == {
            tagged_hash(key_hash) for key_hash in gateway.pool.delegates
        }
        # An attestation of a chain that is not the pool's, by a key that is not there: the first
        # of Octez' key_encoding_vectors, and a message of Signatory's request_test.
        connection.sendall(
            bytes.fromhex(
                "006a00004e99eea7224c93d2f1e614bf86d74025b3e26a640000005012ed9d217c2f50673bab6b20dfb0"
                "a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002000000041f1ebb39759cc957"
                "216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
            )
        )
        answer = receive_exactly(connection, int.from_bytes(receive_exactly(connection, 2)))
        assert answer[0] == 1
        trace_bytes, error_bytes = int.from_bytes(answer[1:5]), int.from_bytes(answer[5:9])
        assert len(answer) == 5 + trace_bytes == 9 + error_bytes
        assert int.from_bytes(answer[9:13], "little") == error_bytes  # a BSON document
        assert b"\x02msg\x00" in answer
        assert b"unknown_key: " in answer


def test_refusals_come_as_traces_and_the_connection_stays(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[1]
    level = gateway.pool.next_level()
    with gateway.unix() as connection:
        for content, expected in (("a", b"\x00"), ("b", b"\x01"), ("a", b"\x00")):
            data = attestation(batch(level, content=content))
            sign = b"\x00" + tagged_hash(key_hash) + len(data).to_bytes(4) + data
            answer = exchange(connection, sign)
            assert answer[:1] == expected
        nonce = exchange(connection, b"\x03" + tagged_hash(key_hash) + b"\0\0\0\4\0\0\0\1")
        assert nonce[0] == 1
        assert b"policy: " in nonce


# -- who may ask ----------------------------------------------------------------------------------


def authenticated(key_hash: str, data: bytes, client: SecretKey = ALICE) -> bytes:
    message = b"\x04\x01" + tagged_hash(key_hash) + data
    return client.sign(message, digest(message))


def test_only_authorized_clients_sign(strict: GatewayProcess) -> None:
    key = strict.pool.keys[2]
    alice = ALICE.public_key.hash(MAVRYK)
    assert strict.call("GET", "/authorized_keys").body == {"authorized_keys": [alice]}
    data = attestation(batch(strict.pool.next_level()))
    missing = strict.sign(key.key_hash, data)
    assert (missing.status, missing.message) == (
        403,
        "not_authenticated: missing authentication signature field",
    )
    proof = write_signature(authenticated(key.key_hash, data), Curve.ED25519)
    answer = strict.sign(key.key_hash, data, f"?authentication={proof}")
    assert key.has_signed_bytes(data, answer.signature)
    generic = write_signature(authenticated(key.key_hash, data))  # sig…, as some clients write it
    assert strict.sign(key.key_hash, data, f"?authentication={generic}").status == 200
    mallory = SecretKey(bytes(32))
    other = write_signature(authenticated(key.key_hash, data, mallory), Curve.ED25519)
    assert strict.sign(key.key_hash, data, f"?authentication={other}").status == 403
    with strict.tcp() as connection:
        authorized = exchange(connection, b"\x02")
        assert authorized == b"\x00\x01" + (21).to_bytes(4) + tagged_hash(alice)
        sign = b"\x00" + tagged_hash(key.key_hash) + len(data).to_bytes(4) + data
        assert exchange(connection, sign)[0] == 1
        assert exchange(connection, sign + authenticated(key.key_hash, data))[0] == 0


def test_an_authenticated_client_has_a_name_of_its_own_at_the_broker(
    strict: GatewayProcess,
) -> None:
    """So that a policy can tell clients apart."""
    name = f"gateway.{ALICE.public_key.hash(MAVRYK)}"
    key_hash = strict.pool.delegates[3]
    data = noop("who")
    proof = write_signature(authenticated(key_hash, data))
    watcher = Watcher(strict.pool.endpoints, f"c/{name}")
    try:
        until(lambda: watcher.poll(0.1) or watcher.live, what="a subscription")
        assert strict.sign(key_hash, data, f"?authentication={proof}").status == 200
        [event] = until(lambda: watcher.poll(0.1), what="the client's event")
        assert isinstance(event, Event)
        assert (event.delegate, event.event) == (key_hash, "signed")
    finally:
        watcher.close()


def test_a_client_whose_key_is_removed_signs_no_more(strict: GatewayProcess) -> None:
    key_hash = strict.pool.delegates[2]
    data = noop("removed")
    sign = b"\x00" + tagged_hash(key_hash) + len(data).to_bytes(4) + data
    with strict.tcp() as connection:
        assert exchange(connection, sign + authenticated(key_hash, data))[0] == 0
        (strict.pool.state_dir / "keys" / "authorized_keys").write_text("[]")
        until(lambda: strict.call("GET", "/authorized_keys").body == {"authorized_keys": []})
        assert exchange(connection, sign + authenticated(key_hash, data))[0] == 1


@pytest.mark.parametrize("option", ["--http", "--tcp", "--https"])
def test_strangers_cannot_be_let_in_by_accident(running: PoolProcess, option: str) -> None:
    ended = running.run("gateway", option, "0.0.0.0:0", check=False)
    assert ended.returncode == 78
    assert "--require-authentication" in ended.stderr


def test_what_cannot_be_served_is_said(running: PoolProcess, gateway: GatewayProcess) -> None:
    taken = f"127.0.0.1:{gateway.ports['http']}"
    for arguments, text in (
        (["--http", taken], "cannot listen"),
        (["--http", "localhost"], "no HOST:PORT"),
        (["--unix", gateway.unix_path], "somebody listens on"),
        (["--unix", str(running.log_path)], "is no socket"),
        (["--https", "127.0.0.1:0"], "--certificate"),
        (["--https", "127.0.0.1:0", "--certificate", "none", "--key", "none"], "none"),
    ):
        ended = running.run("gateway", *arguments, check=False)
        assert ended.returncode == 78, ended.stderr
        assert text in ended.stderr
    with gateway.unix() as connection:  # it is still there
        assert exchange(connection, b"\x02") == b"\x00\x00"


def test_https(running: PoolProcess) -> None:
    certificate, key = make_certificate(running.directory)
    gateway = GatewayProcess(
        running, "--https", "localhost:0", "--certificate", certificate, "--key", key
    )
    gateway.unix_path += "3"
    gateway.start()
    context = ssl.create_default_context(cafile=certificate)
    url = f"https://localhost:{gateway.ports['https']}/keys/{running.delegates[0]}"
    with urllib.request.urlopen(url, context=context, timeout=20) as answer:
        assert json.load(answer) == {"public_key": running.keys[0].public_key}
    assert gateway.process is not None
    gateway.process.terminate()
    assert gateway.process.wait(20) == 0


def test_the_status_has_the_gateways_numbers(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[2]
    assert gateway.sign(key_hash, attestation(batch(gateway.pool.next_level()))).status == 200
    assert gateway.call("GET", "/nowhere").status == 404

    def numbers() -> dict[str, float] | None:
        found: dict[str, float] = gateway.pool.status()["services"].get("gateway", {})
        return found if found.get("signed") and found.get("denied_404") else None

    found = until(numbers, what="the gateway's report")
    assert found["p99_us"] >= found["p50_us"] > 0
    assert "service gateway" in gateway.pool.run("status").stdout


def test_a_message_that_is_none_is_answered_and_ends_the_connection(
    gateway: GatewayProcess,
) -> None:
    with gateway.tcp() as connection:
        connection.sendall(b"\x00\x01\x09")  # no such request
        answer = receive_exactly(connection, int.from_bytes(receive_exactly(connection, 2)))
        assert answer[0] == 1
        assert is_closed(connection)
