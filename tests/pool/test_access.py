"""Who may come in: CURVE keys on TCP, nothing at all on addresses that others reach without."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import zmq
from pool_process import PoolProcess, names
from zmq.auth import create_certificates

from broker.access import load_identity
from broker.client import Client, RequestRefused
from broker.errors import FixRequest, NoAnswer
from broker.messages import ATTESTATION_READY
from broker.sockets import CurveIdentity

pytestmark = pytest.mark.process


def free_ports(count: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in listening]
    for each in listening:
        each.close()
    return ports


def test_an_address_that_others_reach_needs_curve(pool: PoolProcess) -> None:
    for name in ("requests", "admin", "events", "workers"):
        for address in ("tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"):
            pool.configure(f'[endpoints]\n{name} = "{address}"\n')
            refused = pool.run("broker", check=False)
            assert refused.returncode not in (0, None)
            assert address in refused.stderr
            assert "CURVE" in refused.stderr
            assert "Traceback" not in refused.stderr
    refused = pool.run("serve", check=False)  # and it does not try again and again
    assert refused.returncode not in (0, None)
    assert "CURVE" in refused.stderr


class Certificates:
    """Key pairs of the broker, a listed client and a stranger."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("broker", "listed", "stranger"):
            create_certificates(directory, name)
        self.broker = load_identity(self.path("broker"))

    def path(self, name: str) -> str:
        return str(self._directory / f"{name}.key_secret")

    def public(self, name: str) -> str:
        return load_identity(self.path(name)).public.decode()

    def of_client(self, name: str) -> CurveIdentity:
        return load_identity(self.path(name), self.public("broker"))


def test_with_curve_a_listed_client_comes_in_and_a_stranger_does_not(
    pool: PoolProcess, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    requests, events, admin, workers = free_ports(4)
    pool.configure(
        f"""
        [endpoints]
        requests = "tcp://127.0.0.1:{requests}"
        events = "tcp://127.0.0.1:{events}"
        admin = "tcp://127.0.0.1:{admin}"
        workers = "tcp://127.0.0.1:{workers}"
        [curve]
        certificate = "{certificates.path("broker")}"
        [curve.clients]
        baker-1 = "{certificates.public("listed")}"
        """
    )
    pool.serving = pool.start_command("serve", "--workers", "1")
    assert pool.run("status", "--wait", "20").returncode == 0
    with Client(pool.endpoints, "baker-1", curve=certificates.of_client("listed")) as client:
        client.wait_live()
        assert names(client.wait(pool.attest(client, 10))) == [ATTESTATION_READY] * 6
        # The name that its key has is its name, whatever it says.
        with Client(pool.endpoints, "baker-2", curve=certificates.of_client("listed")) as liar:
            with pytest.raises(FixRequest, match="baker-1"):
                liar.cancel()
            with pytest.raises(RequestRefused, match="wrong_client"):
                liar.wait(pool.attest(liar, 11))
    for curve in (certificates.of_client("stranger"), None):
        with Client(pool.endpoints, "baker-1", curve=curve) as stranger:
            with pytest.raises(NoAnswer):
                stranger.wait_live(0.5)
            with pytest.raises(NoAnswer):
                stranger.status(0.5)
    assert names_of_sockets_closed_to(pool, certificates.of_client("listed")) == ["admin"]


def names_of_sockets_closed_to(pool: PoolProcess, curve: CurveIdentity) -> list[str]:
    """Where a client's key does not open the door: each role has a list of its own."""
    closed = []
    for name in ("requests", "admin"):
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            curve.apply(dealer)
            dealer.connect(getattr(pool.endpoints, name))
            dealer.send(b"\x81\xa4type\xa6status")
            if not dealer.poll(500):
                closed.append(name)
    return closed
