"""A SoftHSM token in a directory of its own, and processes that have the module loaded.

SoftHSM reads its settings when it is loaded and may crash at its end; so it is never loaded in
pytest's process, and a child is judged by its answers alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from signers.formats.networks import TEZOS
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey

PIN = "1234"
ROOT = Path(__file__).parents[3]
ANSWER_S = 60.0


@cache
def module() -> str:
    """Where Debian, Fedora and others put SoftHSM."""
    places = ("/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm")
    found = [p for p in (f"{d}/libsofthsm2.so" for d in places) if os.path.exists(p)]
    assert found, "SoftHSM is missing: apt-get install softhsm2"
    return found[0]


class SoftToken:
    """A token called `pool` in a directory, with SoftHSM's settings beside it."""

    def __init__(self, directory: Path, label: str = "pool") -> None:
        self.label = label
        self.directory = directory / "tokens"
        self.conf = directory / "softhsm2.conf"
        self.environment = os.environ | {"SOFTHSM2_CONF": str(self.conf)}
        if not self.conf.exists():
            self.directory.mkdir()
            self.conf.write_text(
                f"directories.tokendir = {self.directory}\nobjectstore.backend = file\n"
                "log.level = ERROR\nslots.removable = false\n"
            )
        before = set(self.directory.iterdir())
        shown = self._util(
            *("--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN)
        )
        [self._files] = set(self.directory.iterdir()) - before
        self.slot = int(re.findall(r"\d+", shown)[-1])
        # The serial is the end of the name that SoftHSM gives the token's directory.
        self.serial = self._files.name.replace("-", "")[-16:]

    def _util(self, *arguments: str) -> str:
        done = subprocess.run(
            ["softhsm2-util", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=ANSWER_S, check=True,
        )  # fmt: skip
        return done.stdout

    def add(self, curve: Curve, label: str, id: str = "a1") -> PublicKey:
        """Put a new key into the token; returns its public key."""
        private, public = _new_key(curve)
        pem = self.conf.with_name("key.pem")
        pem.write_bytes(private)
        self._util(
            *("--import", str(pem), "--token", self.label, "--pin", PIN),
            *("--label", label, "--id", id),
        )
        pem.unlink()
        return PublicKey(curve, public)

    def uri(self, label: str, more: str = f"&pin-value={PIN}") -> str:
        return f"pkcs11:token={self.label};object={label}?module-path={module()}{more}"

    def take_away(self) -> None:
        self._files.rename(self._files.parents[1] / "elsewhere")

    def put_back(self) -> None:
        (self._files.parents[1] / "elsewhere").rename(self._files)

    def hang(self) -> None:
        """From now on each call into the module that looks at a file of the token hangs."""
        for file in list(self._files.iterdir()):
            file.rename(file.with_name(f"{file.name}.put-aside"))
            os.mkfifo(file)  # nobody writes: to open it waits

    @contextmanager
    def process(self, **environment: str) -> Iterator[Child]:
        """A process with a module of its own."""
        with Child(self.environment | environment) as child:
            yield child


class Child:
    """A `token_child.py`: a line of JSON in, a line of JSON out."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("token_child.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=environment | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def ask(self, what: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **given}) + "\n")
        line = self._process.stdout.readline()
        assert line, "the child has ended"
        return json.loads(line)

    def sign(
        self, uri: str, key: PublicKey, message: bytes = b"\x03hello", *, knows_key: bool = True
    ) -> Any:
        """A signature in bytes, or the code of an error."""
        answer = self.ask(
            "sign", uri=uri, hash=key.hash(TEZOS), message=message.hex(),
            key=key.text() if knows_key else None,
        )  # fmt: skip
        return bytes.fromhex(answer["signature"]) if "signature" in answer else answer["code"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _new_key(curve: Curve) -> tuple[bytes, bytes]:
    """PKCS#8 of a new key, and its raw public key."""
    if curve is Curve.ED25519:
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
    else:
        kind = ec.SECP256K1() if curve is Curve.SECP256K1 else ec.SECP256R1()
        key = ec.generate_private_key(kind)
        public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public
