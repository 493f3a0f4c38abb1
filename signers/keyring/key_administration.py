"""Making, importing and enabling keys: the key directory and the store, in the safe order.

A key is written into the directory first and enabled in the store last: a key without a mark
is refused, so whatever is interrupted in between signs nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from signers.backends.backend import (
    SignerFailed,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    SignerUnknownKey,
)
from signers.backends.key_inquiry import ask_public_key
from signers.backends.key_uri import (
    ELSEWHERE,
    HttpKey,
    LedgerKey,
    Pkcs11Key,
    RemoteKey,
    TcpKey,
    UnixKey,
    read_key_uri,
)
from signers.errors import BadRequest, MalformedBytes
from signers.formats.networks import Network, network_by_name
from signers.formats.tagged_keys import curve_of_hash, hash_text, tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import PublicKey, SecretKey, read_key_hash
from signers.keyring.keystore import Keystore, UnknownKey, read_locator
from signers.keyring.passwords import Passwords
from signers.marks.store_copies import StoreView, read_store
from signers.marks.store_errors import NoMark
from signers.marks.watermark import EVERYONE, FRESH, MARKED_KINDS
from signers.marks.watermark_store import WatermarkStore

# So many keys take a tenth of a second under the store's lock, where a pool may be waiting.
KEYS_PER_TRANSACTION = 2_000


class NoNetwork(BadRequest):
    """Nothing says of which network the keys are: `init` the store first, or name it."""

    code = "no_network"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pool keeps its store and its keys."""

    state_dir: Path
    base_dir: Path

    @property
    def store_path(self) -> Path:
        """The watermark store, whether it is there or not."""
        return self.state_dir / "watermarks.db"

    @property
    def keystore(self) -> Keystore:
        """The client directory."""
        return Keystore(self.base_dir)

    def make_state_dir(self) -> None:
        """Make the state directory for its owner alone, if it is not there."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def view(self) -> StoreView | None:
        """Read the store; None when there is none."""
        return read_store(self.store_path) if self.store_path.exists() else None


class ListedKey(NamedTuple):
    """A key of the directory, of the store, or of both.

    `curve` is its name, None when the hash is of no known kind; `scheme` says how the secret is
    kept, None when it is not in the directory. `enabled` is None when there is no store or
    the store does not know the key.
    """

    name: str | None
    key_hash: str
    public_key: str | None
    curve: str | None
    scheme: str | None
    enabled: bool | None
    delegate: str | None


class NewKey(NamedTuple):
    """A key that was just written; `enabled` says whether there was a store to enter it."""

    name: str
    key_hash: str
    public_key: str | None  # None: its signer will be asked for it
    enabled: bool
    note: str = ""  # what was asked of who has it, and what was not


class KeyUnclear(BadRequest):
    """What was said does not tell which key is meant: correct the URI or the public key."""

    code = "key_unclear"


def is_elsewhere(locator: str) -> bool:
    """Say whether a locator names a signer or device instead of holding a key."""
    return locator.strip().partition(":")[0] in ELSEWHERE


def network_of(place: Place, given: str | None) -> Network:
    """Return the network of the store, or the given one when there is no store yet."""
    view = place.view()
    of_store = None if view is None else view.identity.network
    name = of_store or given
    if name is None:
        raise NoNetwork(
            f"there is no store in {place.state_dir} to say of which network the key is: "
            "`forgepool init` first, or give --network"
        )
    if given not in (None, name):
        raise NoNetwork(f"the store is of {name}, not of {given}")
    return network_by_name(name)


def generate(
    place: Place,
    name: str,
    count: int,
    network: Network,
    delegate: str | None,
    curve: Curve = Curve.ED25519,
    password: bytes | None = None,
    progress: Callable[[], object] = lambda: None,
) -> list[NewKey]:
    """Make new keys; none has signed anything, so each gets a fresh mark.

    More than one are called NAME-1, NAME-2 … The delegate, if it is another, must have a mark.
    With a password they are written encrypted, and `progress` is called for each that is.
    """
    if delegate is not None:
        delegate = find_hash(place, delegate, network)
        _check_marked(
            place.view(),
            delegate,
            f"Let it sign first: `forgepool keys enable {delegate} --floor LEVEL`, LEVEL being the "
            "level of the chain's head now, or with --fresh if it has never signed anything",
        )
    names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
    keys = {each: SecretKey.generate(curve, network.bls_scheme) for each in names}
    encrypted = {} if password is None else _seal(keys, password, progress)
    place.make_state_dir()
    place.keystore.add(keys, network, encrypted)
    hashes = [key.public_key.hash(network) for key in keys.values()]
    is_enabled = place.store_path.exists()
    if is_enabled:
        give_marks(place, hashes, FRESH, "keys generate")
        bindings = ((key_hash, delegate or key_hash) for key_hash in hashes)
        _enable(place, bindings, None, "keys generate")
    return [
        NewKey(each, key_hash, key.public_key.text(), is_enabled)
        for (each, key), key_hash in zip(keys.items(), hashes, strict=True)
    ]


def import_key(
    place: Place,
    name: str,
    locator: str,
    network: Network,
    delegate: str | None,
    floor: int | None,
    passwords: Passwords | None = None,
    new_password: Callable[[], bytes] | None = None,
) -> NewKey:
    """Write a key that exists already, and enable it if the store may know where it stands.

    `locator` is ``unencrypted:edsk…``, ``encrypted:edesk…``, or either without its scheme. What
    is encrypted is opened with the `passwords` and written as it came; what is not is put under
    the new password, if there is to be one. Raises UnsupportedKey, MalformedBytes, what
    `Passwords` raises, and NoMark when there is a store, no `floor`, and no mark of the key or
    its delegate.
    """
    encrypted: dict[str, EncryptedKey] = {}
    key = read_locator(locator, network)
    if isinstance(key, EncryptedKey):
        encrypted[name] = key
        key = (passwords or Passwords()).open(key, name, network.bls_scheme)
    elif new_password is not None:
        encrypted[name] = EncryptedKey.seal(key, new_password())
    key_hash = key.public_key.hash(network)
    if delegate is not None:
        read_key_hash(delegate, network)
    view = place.view()
    if view is not None and floor is None:
        for holder in {key_hash, delegate or key_hash}:
            _check_marked(view, holder)
    place.make_state_dir()
    place.keystore.add({name: key}, network, encrypted)
    if view is not None:
        _enable(place, [(key_hash, delegate or key_hash)], floor, "keys import")
    return NewKey(name, key_hash, key.public_key.text(), view is not None)


def import_elsewhere(
    place: Place,
    name: str,
    uri: str,
    network: Network,
    delegate: str | None,
    floor: int | None,
    public_key: PublicKey | None,
    environment: Mapping[str, str],
) -> NewKey:
    """Write down who has a key that is not here, and enable it as `import_key` does.

    A remote signer is asked for the public key; one that cannot be asked now may be there later,
    but one that says it does not have the key is believed. A device is not asked, and does not tell
    a key by its hash, so there the public key is needed. Raises MalformedKeyUri, KeyUnclear,
    SignerUnknownKey, SignerMalformed, and what `import_key` raises for marks.
    """
    place_of_key = read_key_uri(uri, environment)
    said = None
    if isinstance(place_of_key, HttpKey | TcpKey | UnixKey):
        said = hash_text(tagged_hash(place_of_key.key_hash), network)
    else:
        assert isinstance(place_of_key, LedgerKey | Pkcs11Key)  # `is_elsewhere` has said so
    if public_key is None and said is None:
        raise KeyUnclear("a device does not tell keys by their hashes: give --public-key")
    key_hash = said if public_key is None else public_key.hash(network)
    assert key_hash is not None
    if said not in (None, key_hash):
        raise KeyUnclear(f"the URI is of {said}, the public key of {key_hash}")
    view = place.view()
    if view is not None and floor is None:
        for holder in {key_hash, delegate or key_hash}:
            _check_marked(view, holder)
    note = "The device was not asked: the public key is the one that was given."
    if isinstance(place_of_key, HttpKey | TcpKey | UnixKey):
        told, note = _ask_signer(place_of_key, environment)
        public_key = public_key or told
    place.make_state_dir()
    place.keystore.add_elsewhere(name, uri.strip(), key_hash, public_key)
    if view is not None:
        _enable(place, [(key_hash, delegate or key_hash)], floor, "keys import")
    text = None if public_key is None else public_key.text()
    return NewKey(name, key_hash, text, view is not None, note)


def enable(place: Place, keys: Sequence[str], delegate: str | None, floor: int | None) -> list[str]:
    """Let keys (names or hashes) sign, for a delegate or as before; return their hashes."""
    view = read_store(place.store_path)
    network = network_by_name(view.identity.network)
    above = None if delegate is None else find_hash(place, delegate, network)
    hashes = [find_hash(place, key, network) for key in keys]
    bindings = []
    for key_hash in hashes:
        bound = view.content.marks.find(key_hash)
        bindings.append((key_hash, above or (bound.delegate if bound else key_hash)))
    _enable(place, bindings, floor, "keys enable")
    return hashes


def disable(place: Place, keys: Sequence[str]) -> list[str]:
    """Let keys (names or hashes) sign no more; return their hashes."""
    network = network_by_name(read_store(place.store_path).identity.network)
    hashes = [find_hash(place, key, network) for key in keys]
    with (
        WatermarkStore.open(place.store_path, wal_bytes=0) as store,
        store.begin("keys disable") as transaction,
    ):
        for key_hash in hashes:
            transaction.disable(key_hash)
        transaction.commit()
    return hashes


def raise_floors(place: Place, keys: Sequence[str], level: int) -> list[str]:
    """Refuse a level and all below for keys (names or hashes) and their delegates, or for all.

    No keys: everyone that the store knows. Returns the hashes of those concerned.
    """
    view = read_store(place.store_path)
    marks, network = view.content.marks, network_by_name(view.identity.network)
    holders = set() if keys else set(marks.holders())
    for key in keys:
        key_hash = find_hash(place, key, network)
        bound = marks.find(key_hash)
        holders |= {key_hash, bound.delegate if bound else key_hash}
    give_marks(place, sorted(holders), level, "watermarks set-floor")
    return sorted(holders)


def set_ceilings(place: Place, keys: Sequence[str], level: int | None) -> list[str]:
    """Sign nothing above a level, with keys (names or hashes) or, without any, with all.

    None lifts ceilings: those of the keys, or without any all that there are. Returns the
    hashes of those whose ceilings were set or lifted, `EVERYONE` for the one of all.
    """
    view = read_store(place.store_path)
    network = network_by_name(view.identity.network)
    holders = [find_hash(place, key, network) for key in keys]
    if not keys:
        holders = [EVERYONE] if level is not None else sorted(view.content.marks.ceilings())
    if not holders:
        return []
    with (
        WatermarkStore.open(place.store_path, wal_bytes=0) as store,
        store.begin("watermarks sign-until") as transaction,
    ):
        for holder in holders:
            transaction.set_ceiling(holder, level)
        transaction.commit()
    return holders


def list_keys(place: Place) -> Iterator[ListedKey]:
    """List the keys of the directory with what the store says of each, then those it has not."""
    view = place.view()
    known = {} if view is None else {b.key: b for b in view.content.marks.bound_keys()}
    seen = set()
    for entry in place.keystore.entries():
        bound = known.get(entry.key_hash)
        seen.add(entry.key_hash)
        yield ListedKey(
            *entry[:3],
            curve=_curve_name(entry.key_hash),
            scheme=entry.scheme,
            enabled=None if bound is None else bound.enabled,
            delegate=None if bound is None else bound.delegate,
        )
    for key_hash, bound in known.items():
        if key_hash not in seen:
            curve = _curve_name(key_hash)
            yield ListedKey(None, key_hash, None, curve, None, bound.enabled, bound.delegate)


def find_hash(place: Place, key: str, network: Network) -> str:
    """Return the hash of a key that is given by name or by hash. Raises UnknownKey.

    A directory that clients of both networks share may have one key under both hashes. In a store
    they would be two holders with two marks, and the key could sign two blocks: so the other
    network's hash is refused.
    """
    key_hash = place.keystore.key_hash(key) or key
    try:
        read_key_hash(key_hash, network)
    except MalformedBytes:
        said = f"{key[:40]!r} is" if key_hash == key else f"{key[:40]!r} is {key_hash}, which is"
        raise UnknownKey(
            f"{said} neither the name of a key in {place.base_dir} nor a key hash of {network.name}"
        ) from None
    return key_hash


def _ask_signer(key: RemoteKey, environment: Mapping[str, str]) -> tuple[PublicKey | None, str]:
    """Return a signer's public key, None when it could not be asked, and a sentence on it."""
    try:
        found = ask_public_key(key, environment)
    except (SignerUnavailable, SignerTimeout, SignerFailed, SignerRejected) as error:
        return None, (
            f"warning: {key.authority} could not be asked ({error}). The key is written down; not "
            "checked: whether a signer is there, has this key, and signs with it"
        )
    except (SignerUnknownKey, SignerMalformed) as error:
        raise type(error)(f"{key.authority}: {error}. Nothing was written down") from None
    return found, f"{key.authority} has this key. Not checked: whether it signs with it."


def _seal(
    keys: Mapping[str, SecretKey], password: bytes, progress: Callable[[], object]
) -> dict[str, EncryptedKey]:
    """Put keys under a password, on all cores: it takes some 25 ms for each."""

    def seal(key: SecretKey) -> EncryptedKey:
        return EncryptedKey.seal(key, password)

    sealed = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for name, each in zip(keys, threads.map(seal, keys.values()), strict=True):
            sealed[name] = each
            progress()
    return sealed


def _curve_name(key_hash: str) -> str | None:
    try:
        return curve_of_hash(key_hash).value.name
    except MalformedBytes:
        return None


_SAY_WHERE_IT_STANDS = (
    "If it has signed anything anywhere, stop that for good and give the level of the chain's head "
    "now (--floor LEVEL); if it never has, say so (--fresh)"
)


def _check_marked(view: StoreView | None, holder: str, advice: str = _SAY_WHERE_IT_STANDS) -> None:
    if view is None:
        raise NoMark(f"there is no store that knows {holder}: `forgepool init` first")
    if any(view.content.marks.mark(holder, kind) is None for kind in MARKED_KINDS):
        raise NoMark(
            f"{holder} has no mark in the store, so nothing says up to which level it has signed. "
            + advice
        )


def _enable(
    place: Place, bindings: Iterable[tuple[str, str]], floor: int | None, command: str
) -> None:
    bindings = iter(bindings)
    with WatermarkStore.open(place.store_path, wal_bytes=0) as store:
        while some := list(islice(bindings, KEYS_PER_TRANSACTION)):
            with store.begin(command) as transaction:
                for key_hash, delegate in some:
                    transaction.enable(key_hash, delegate, floor=floor)
                transaction.commit()


def give_marks(place: Place, holders: Iterable[str], level: int, command: str) -> None:
    """Give holders (hashes) a floor, or a fresh mark, where theirs are lower; it is logged."""
    holders = iter(holders)
    with WatermarkStore.open(place.store_path, wal_bytes=0) as store:
        while some := list(islice(holders, KEYS_PER_TRANSACTION)):
            with store.begin(command) as transaction:
                for holder in some:
                    transaction.raise_floor(holder, level)
                transaction.commit()
