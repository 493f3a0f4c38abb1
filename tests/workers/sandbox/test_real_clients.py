"""Real clients on a baked chain: the sandbox reads with our own codec, so its consent to what we
write proves nothing about formats. What others write, sign and read does.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]
# Half a minute, but for the first time on a machine: then the client is installed.
WAIT_S = 400
END_S = 60


def real_clients(*names: str) -> tuple[int, str]:
    """Run `scripts/real-clients`; return its status and all that it said."""
    with subprocess.Popen(
        ["scripts/real-clients", *names],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # it ends the chain that it has started
            said, _ = process.communicate(timeout=END_S)
            pytest.fail(f"not done in {WAIT_S} s:\n{said}")
    return process.returncode, said


@pytest.mark.timeout(WAIT_S + END_S + 20)
def test_pytezos_reads_sends_and_is_refused_as_by_a_real_node() -> None:
    status, said = real_clients("pytezos")
    assert status == 0, f"scripts/real-clients pytezos ended with {status}:\n{said}"
    for step in (
        "reads the head: level ",
        "reads constants: a block in 1 s",
        "reads balances: 1000.000000",
        "transfers: 1000003 in a block",
        "transfers with async=True: in a block",
        "funds, reveals, transfers: a new account paid 64250",
        "delegates: to tz1",
        "is refused: more than it has: TezArithmeticError",
        "is refused: counter in the past: RpcError, proto.025-PsUshuai.contract.counter_in_the_",
        "is refused at injection: RpcError, failure: Counter ",
        "is refused: wrong signature: refused in the mempool, proto.025-PsUshuai.operation.inv",
        # With a key of the pool, through the gateway.
        "asks the gateway for the public key: edpk",
        "transfers, signed by the pool: 1000004 in a block",
        "votes through the gateway: edsig",
        "is refused by the gateway: 404 unknown key, 400 garbage, 403 not_authenticated: ",
    ):
        assert f"pytezos: {step}" in said, said


def test_a_client_that_is_none_is_said() -> None:
    status, said = real_clients("octez")
    assert status == 2
    assert "there is no client octez; there are pytezos, taquito and pymavryk" in said
