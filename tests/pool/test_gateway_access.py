"""A gateway and its broker over TCP: certificates say who comes in, and under which name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gateway_process import GatewayProcess
from pool_process import PoolProcess, noop, until
from test_access import Certificates, free_ports

from signers.formats.hashes import blake2b_32
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.keys import SecretKey, write_signature

pytestmark = pytest.mark.process

ALICE = SecretKey(bytes(range(32)))  # a test key


def test_with_curve_an_authenticated_client_signs_under_the_gateways_name(
    pool: PoolProcess, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    names = ("requests", "events", "admin", "workers")
    endpoints = "[endpoints]\n" + "".join(
        f'{name} = "tcp://127.0.0.1:{port}"\n'
        for name, port in zip(names, free_ports(4), strict=True)
    )
    pool.configure(
        f"""
        {endpoints}
        [curve]
        certificate = "{certificates.path("broker")}"
        [curve.clients]
        gateway-1 = "{certificates.public("listed")}"
        """
    )
    elsewhere = tmp_path / "gateway.toml"
    elsewhere.write_text(
        f"""
        {endpoints}
        [curve]
        certificate = "{certificates.path("listed")}"
        server_key = "{certificates.public("broker")}"
        """
    )
    pool.serving = pool.start_command("serve", "--workers", "1")
    assert pool.run("status", "--wait", "20").returncode == 0
    element = {"name": "alice", "value": ALICE.public_key.text()}
    (pool.state_dir / "keys" / "authorized_keys").write_text(json.dumps([element]))
    gateway = GatewayProcess(
        pool, "--config", str(elsewhere), "--client", "gateway-1", "--require-authentication"
    )
    gateway.start()
    until(lambda: gateway.call("GET", "/readyz").status == 200, what="a gateway that is ready")
    key, data = pool.keys[0], noop("over TCP")
    message = b"\x04\x01" + tagged_hash(key.key_hash) + data
    proof = write_signature(ALICE.sign(message, blake2b_32(message)))
    answer = gateway.sign(key.key_hash, data, f"?authentication={proof}")
    assert key.has_signed_bytes(data, answer.signature)


def test_the_gateway_of_serve_comes_in_with_the_brokers_certificate(
    pool: PoolProcess, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    requests, events = free_ports(2)
    pool.configure(
        f"""
        [endpoints]
        requests = "tcp://127.0.0.1:{requests}"
        events = "tcp://127.0.0.1:{events}"
        [curve]
        certificate = "{certificates.path("broker")}"
        [gateway]
        http = "127.0.0.1:0"
        """
    )
    pool.serve(1)
    pool.wait_for_log("listening at=http://")
    gateway = GatewayProcess(pool)
    port = pool.log().rpartition("listening at=http://127.0.0.1:")[2].split()[0]
    gateway.ports = {"http": int(port)}
    until(lambda: gateway.call("GET", "/readyz").status == 200, what="a gateway that is ready")
    key, data = pool.keys[0], noop("of serve")
    assert key.has_signed_bytes(data, gateway.sign(key.key_hash, data).signature)
