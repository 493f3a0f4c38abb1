"""Where a pool lives and listens: TOML file, environment and flags, in rising order of weight.

<state-dir>/forgepool.toml     settings (all optional)
<state-dir>/run/*.ipc          sockets, when no address is given
<state-dir>/broker.lock        held by the one broker of this directory
<state-dir>/events/            event log
<state-dir>/quarantine/        what waits to be verified, what was, and its event log
<state-dir>/applications.json  which applications have their off-chain tasks processed
<state-dir>/tasks.db           journal of their tasks (workers only)
<state-dir>/watermarks.db      watermark store (workers only)
<state-dir>/policy.toml        which key may sign what, for whom (workers only; optional)
<state-dir>/keys/              key store, an Octez/Mavryk client directory (workers only)
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from broker.applications import OPERATORS_PER_APPLICATION_MAX, OperatorName
from broker.errors import Misconfigured

STATE_DIR_ENV = "FORGEPOOL_STATE_DIR"
BASE_DIR_ENV = "FORGEPOOL_BASE_DIR"
CONFIG_NAME = "forgepool.toml"
STORE_NAME = "watermarks.db"
PORT_MAX = 65535
IPC_PATH_BYTES_MAX = 107  # sun_path of a Unix socket, without its final zero


class Endpoints(Struct, frozen=True, forbid_unknown_fields=True):
    """ZeroMQ addresses; an empty one becomes an ipc socket in the state directory."""

    requests: str = ""
    admin: str = ""
    events: str = ""
    workers: str = ""


class Curve(Struct, frozen=True, forbid_unknown_fields=True):
    """CurveZMQ for TCP: our certificate, and who may come in on which socket."""

    certificate: str = ""  # path of a .key_secret file (zmq.auth.create_certificates)
    clients: dict[str, str] = {}  # client name = its public key (Z85)
    admins: dict[str, str] = {}
    workers: dict[str, str] = {}
    server_key: str = ""  # the broker's public key (Z85), when the certificate is not its own


class BackEndSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How workers use signers that are elsewhere; what is absent has a default."""

    concurrency: Annotated[int, Meta(ge=1, le=64)] | None = None  # signatures at once
    queue: Annotated[int, Meta(ge=1, le=65536)] | None = None  # requests that wait for a place
    # Of one signature; the worker ends a request without an answer after 10 s.
    time_limit_s: Annotated[float, Meta(gt=0, le=8)] | None = None
    # Of what a person must agree to on the signer's screen: operations, never blocks and votes.
    person_limit_s: Annotated[float, Meta(gt=0, le=600)] | None = None
    open_s_max: Annotated[float, Meta(ge=0.5, le=3600)] | None = None  # left alone at a time
    authentication_key: str = ""  # name or hash: the key by which we show who we are
    authorities: str = ""  # PEM file of those who vouch for the signer; empty: the system's
    certificate: str = ""  # PEM file with our certificate and its key


class SignerSettings(BackEndSettings, frozen=True, forbid_unknown_fields=True):
    """Those of all back-ends, and of single ones by address (``http://host:6732``)."""

    back_ends: dict[str, BackEndSettings] = {}


class Gateway(Struct, frozen=True, forbid_unknown_fields=True):
    """The octez-signer protocol in front of the pool; an empty address is not listened on."""

    http: str = ""  # "127.0.0.1:6732"; the default when no address is given at all
    https: str = ""
    tcp: str = ""
    unix: str = ""  # path
    certificate: str = ""  # PEM, for https
    key: str = ""  # PEM, for https
    require_authentication: bool = False  # by the keys of <base_dir>/authorized_keys
    allow_unauthenticated: bool = False  # also on addresses that other machines reach
    host_names: list[str] = []  # under which clients may call, besides localhost and addresses
    list_known_keys: bool = False
    prove_possession: bool = False
    timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] = 7.0  # of a request, from its arrival


class QuarantineSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The quarantine in front of the pool; an empty address becomes an ipc socket."""

    requests: str = ""
    admin: str = ""
    events: str = ""
    delegates: Annotated[int, Meta(ge=1, le=1_000_000)] = 400  # what the bounds are derived from
    # Single bounds by name, in place of the derived ones: docs/quarantine.md has the table.
    bounds: dict[str, Any] = {}
    event_log_bytes: Annotated[int, Meta(ge=16 * 1024 * 1024)] = 64 * 1024 * 1024


DAY_S = 24 * 3600.0


class OperatorSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """An operator: the program that performs an off-chain task, and what a run of it may use."""

    # Without a slash: looked for in PATH; relative: seen from the state directory.
    path: Annotated[str, Meta(pattern=r"^[^\0]+\Z")]
    timeout_s: Annotated[float, Meta(ge=0)] = 600.0  # of the first attempt; 0: none
    # Each further attempt may take twice as long, up to this; absent: eight times `timeout_s`.
    timeout_max_s: Annotated[float, Meta(ge=0)] | None = None
    slow_after_s: Annotated[float, Meta(ge=0)] = 300.0  # then it is told of once; 0: never
    grace_s: Annotated[float, Meta(ge=0, le=300)] = 5.0  # between SIGTERM and SIGKILL
    idle_timeout_s: Annotated[float, Meta(ge=0)] = 0.0  # without a byte of output; 0: none
    # The node service takes 2 MiB at a time, and JSON may write a byte as six.
    output_bytes_max: Annotated[int, Meta(ge=1, le=64 * 1024 * 1024)] = 1024 * 1024
    input_bytes_max: Annotated[int, Meta(ge=0, le=64 * 1024 * 1024)] = 1024 * 1024
    lossy: bool = False  # output that is not UTF-8: replaced as the source system does, or refused
    env: list[str] = []  # names of variables that it inherits besides PATH, LANG and TZ
    set_env: dict[str, str] = {}
    concurrency: Annotated[int, Meta(ge=1, le=1024)] | None = None  # at once on this host
    permanent_exits: tuple[Annotated[int, Meta(ge=1, le=255)], ...] = (64, 65, 78)  # sysexits.h
    # Limits of the system (setrlimit(2)) for each of its processes; absent: those of the worker.
    memory_bytes: Annotated[int, Meta(ge=1)] | None = None  # of address space
    cpu_s: Annotated[int, Meta(ge=1)] | None = None
    open_files: Annotated[int, Meta(ge=3)] | None = None
    file_bytes: Annotated[int, Meta(ge=0)] | None = None  # of a file that it writes
    processes: Annotated[int, Meta(ge=1)] | None = None  # of its user


class ApplicationSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """An application whose tasks the pool processes."""

    # Which it may use; ["*"]: every one.
    operators: Annotated[
        list[OperatorName], Meta(min_length=1, max_length=OPERATORS_PER_APPLICATION_MAX)
    ]


class TaskSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Off-chain tasks of applications; see docs/offchain.md."""

    node_service: str = "http://127.0.0.1:8080"  # base URL; empty: workers process none
    chain_id: str = ""  # of applications that are named without a chain
    mode: Literal["hardened", "compat"] = "hardened"
    controller: str = ""  # an application that says on the chain which ones are ours
    controller_owner: str = ""  # as whom we register there; empty: the chain's only owner
    retry_delay_s: Annotated[float, Meta(ge=0.001, le=DAY_S)] = 5.0  # the first pause
    retry_max_s: Annotated[float, Meta(ge=0.001, le=DAY_S)] = 300.0  # the longest
    max_attempts: Annotated[int, Meta(ge=1, le=1_000_000)] = 10  # then it is a dead letter
    concurrency: Annotated[int, Meta(ge=1, le=1024)] = 8  # operators at once on this host
    per_application: Annotated[int, Meta(ge=1, le=1024)] = 4  # of one application
    submit_limit_s: Annotated[float, Meta(ge=1, le=3600)] = 120.0  # of one submission
    # How long a worker that ends waits for submissions, and for operators that may finish: until it
    # has ended, no other one signs in its place on this store.
    drain_s: Annotated[float, Meta(ge=0, le=DAY_S)] = 10.0
    # What becomes of operators that run when their application goes to another worker.
    unassign: Literal["kill", "finish"] = "kill"
    # When an application's new cursor counts: at once, or when the tasks given with it are done.
    cursor_commit: Literal["poll", "after_batch"] = "poll"
    operators: dict[OperatorName, OperatorSettings] = {}
    # By CHAIN/APPLICATION, or APPLICATION on the chain `chain_id`.
    applications: dict[str, ApplicationSettings] = {}


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that forgepool.toml may set."""

    workers: Annotated[int, Meta(ge=0, le=1024)] = 2
    node: str = ""  # base URL of the node RPC, "http://127.0.0.1:8732"
    base_dir: str = ""  # key store; empty: <state-dir>/keys
    password_filename: str = ""  # passwords of encrypted keys, one a line; empty: none
    # Policy file, seen from the state directory; empty: policy.toml, if it is there.
    policy: str = ""
    # When workers take over changes of keys and policy: by themselves, or when told to reload.
    reload: Annotated[str, Meta(pattern=r"^(watch|asked)\Z")] = "watch"
    block_preparation: Annotated[str, Meta(pattern=r"^(in_queue|ahead)\Z")] = "in_queue"
    drain_timeout_s: Annotated[float, Meta(ge=0)] | None = None  # absent: as long as it takes
    event_log_bytes: Annotated[int, Meta(ge=16 * 1024 * 1024)] = 64 * 1024 * 1024
    endpoints: Endpoints = Endpoints()
    curve: Curve = Curve()
    signers: SignerSettings = SignerSettings()
    gateway: Gateway | None = None  # absent: `serve` starts none
    quarantine: QuarantineSettings | None = None  # likewise
    tasks: TaskSettings = TaskSettings()


def default_state_dir() -> Path:
    return Path(os.environ.get(STATE_DIR_ENV) or Path.home() / ".forgepool")


def load_settings(state_dir: Path, path: Path | None = None) -> Settings:
    """Read forgepool.toml of the state directory (or `path`, which then must exist).

    Raises:
        Misconfigured: naming the file and what is wrong in it.
    """
    file = path or state_dir / CONFIG_NAME
    text = b""
    try:
        text = file.read_bytes()
        return msgspec.toml.decode(text, type=Settings)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise Misconfigured(f"{file}: no such file") from None
    except msgspec.ValidationError as e:
        raise Misconfigured(f"{file}: {_named_table_at_fault(text, str(e))}{e}") from None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as e:
        raise Misconfigured(f"{file}: {e}") from None


# Tables whose names are the user's; msgspec shows any of them as `[...]`.
_NAMED_TABLES = {"operators": OperatorSettings, "applications": ApplicationSettings}


def _named_table_at_fault(text: bytes, complaint: str) -> str:
    """Which operator's or application's table it is that is complained of; empty: another."""
    for kind, type in _NAMED_TABLES.items():
        if f"$.tasks.{kind}[...]" not in complaint:
            continue
        for name, table in msgspec.toml.decode(text)["tasks"][kind].items():
            try:
                msgspec.convert({name: table}, dict[OperatorName, type])  # type: ignore[valid-type]
            except msgspec.ValidationError:
                return f"[tasks.{kind}.{name}]: "
    return ""


def node_url(url: str) -> str:
    """A node's RPC address, checked; empty when there is none.

    Raises:
        Misconfigured: it is no http:// or https:// URL with a host.
    """
    return _checked_url(url, "the node's URL is http://HOST:PORT")


def service_url(url: str) -> str:
    """A node service's address, likewise. Raises Misconfigured."""
    return _checked_url(url, "the node service's URL is http://HOST:PORT")


def _checked_url(url: str, how: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
        raise Misconfigured(f"{how} or https://…, not {url!r}")
    return url


def resolve_endpoints(state_dir: Path, given: Endpoints) -> Endpoints:
    """Fill in the ipc defaults and check every address.

    Raises:
        Misconfigured: an ipc path too long for the system, or a malformed address.
    """
    return _resolved(state_dir, given, "")


def quarantine_endpoints(state_dir: Path, settings: QuarantineSettings) -> Endpoints:
    """Where the quarantine listens; it has no workers of its own. Raises Misconfigured."""
    given = Endpoints(settings.requests, settings.admin, settings.events)
    return _resolved(state_dir, given, "quarantine-")


def _resolved(state_dir: Path, given: Endpoints, prefix: str) -> Endpoints:
    chosen = {
        name: getattr(given, name) or f"ipc://{state_dir.absolute()}/run/{prefix}{name}.ipc"
        for name in Endpoints.__struct_fields__
    }
    for name, address in chosen.items():
        _check_address(name, address)
    return Endpoints(**chosen)


def _check_address(name: str, address: str) -> None:
    scheme, _, rest = address.partition("://")
    if scheme == "ipc":
        if not rest or rest.startswith("@"):
            raise Misconfigured(f"the {name} socket needs a path, whose mode guards it: {address}")
        length = len(os.fsencode(rest))
        if length > IPC_PATH_BYTES_MAX:
            raise Misconfigured(
                f"the {name} socket's path has {length} bytes, the system allows "
                f"{IPC_PATH_BYTES_MAX}: {rest}; choose a shorter --state-dir"
            )
    elif scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if not host or not (port == "*" or (port.isdigit() and int(port) <= PORT_MAX)):
            raise Misconfigured(f"the {name} address needs host and port: {address}")
    elif scheme != "inproc":
        raise Misconfigured(f"the {name} address must be ipc:// or tcp://: {address}")


def is_local(address: str) -> bool:
    """Whether only this machine can reach the address."""
    scheme, _, rest = address.partition("://")
    if scheme != "tcp":
        return True
    host = rest.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, an interface or "*"
