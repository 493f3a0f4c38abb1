"""The commands `forgepool keys …`: make, import, list, enable and disable keys."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from signers.command_line import (
    LEVEL,
    base_dir_option,
    confirm,
    json_option,
    place_of,
    print_json,
    reporting,
    state_dir_option,
    yes_option,
)
from signers.formats.networks import NETWORKS
from signers.keyring import key_administration as administration
from signers.keyring.curve import CURVES_BY_NAME, Curve
from signers.keyring.key_administration import NewKey, Place
from signers.keyring.keys import PublicKey
from signers.keyring.passwords import Passwords
from signers.marks.watermark import FRESH

# From so many keys on it takes long enough to show how far it is.
_COUNT_SHOWN = 100

_delegate = click.option(
    "--delegate", metavar="NAME|HASH", help="Whose consensus key it is.  [default: its own]"
)
_floor = click.option(
    "--floor", type=LEVEL, metavar="LEVEL", help="Sign nothing of this level or below."
)
_fresh = click.option(
    "--fresh", is_flag=True, help="The key has never signed anything, here or elsewhere."
)
_encrypted = click.option("--encrypted", is_flag=True, help="Write the secret under a password.")
_password_file = click.option(
    "--password-filename",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="FORGEPOOL_PASSWORD_FILENAME",
    show_envvar=True,
    help="A file with one password a line.  [default: FORGEPOOL_PASSWORD, else asked for]",
)
_network = click.option(
    "--network",
    type=click.Choice(sorted(NETWORKS)),
    help="Whose key hashes to write, when there is no store yet.",
)


@click.group()
def keys() -> None:
    """The keys of the pool, and which of them may sign."""


@keys.command("generate")
@click.argument("name")
@click.option(
    "--count",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="How many; more than one are called NAME-1, NAME-2 …",
)
@click.option(
    "--curve",
    type=click.Choice(list(CURVES_BY_NAME)),
    default=Curve.ED25519.value.name,
    show_default=True,
    help="The signature scheme: tz1, tz2, tz3 or tz4 (mv1 to mv4).",
)
@_encrypted
@_password_file
@click.option(
    "--delegate",
    metavar="NAME|HASH",
    help="Whose consensus keys they become.  [default: their own]",
)
@_network
@state_dir_option
@base_dir_option
@json_option
def generate_keys(
    name: str,
    count: int,
    curve: str,
    encrypted: bool,
    password_filename: Path | None,
    delegate: str | None,
    network: str | None,
    state_dir: Path | None,
    base_dir: Path | None,
    as_json: bool,
) -> None:
    """Make new keys and let them sign, with fresh marks."""
    place = place_of(state_dir, base_dir)
    with reporting(as_json):
        known = administration.network_of(place, network)
        kind = CURVES_BY_NAME[curve]
        password = _new_password(_passwords(password_filename)) if encrypted else None
        with _progress(count if encrypted else 0) as progress:
            made = administration.generate(
                place, name, count, known, delegate, kind, password, progress
            )
    _print_new_keys(place, made, as_json)


@keys.command("import")
@click.argument("name")
@click.argument("secret", required=False, metavar="[SECRET|URI]")
@click.option(
    "--public-key",
    metavar="edpk…",
    help="Of a key elsewhere: needed for a device, else its signer is asked.",
)
@_encrypted
@_password_file
@_delegate
@_floor
@_fresh
@_network
@state_dir_option
@base_dir_option
@json_option
@yes_option
def import_key(
    name: str,
    secret: str | None,
    public_key: str | None,
    encrypted: bool,
    password_filename: Path | None,
    delegate: str | None,
    floor: int | None,
    fresh: bool,
    network: str | None,
    state_dir: Path | None,
    base_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Take over a key that exists: unencrypted:edsk…, encrypted:edesk…, of any curve.

    Or write down who has it: http://…, https://…, tcp://…, unix:…, remote:…, ledger://…, pkcs11:….

    What is encrypted stays as it is; what is not is put under a password with --encrypted.

    SECRET is better not given but typed when asked, or piped in: other users of the host may
    see the arguments of a command.

    A key that has signed elsewhere must stop there for good; say then with --floor the level of
    the chain's head, so that nothing up to it is signed again.
    """
    start = _start(floor, fresh, yes)
    place = place_of(state_dir, base_dir)
    with reporting(as_json):
        known = administration.network_of(place, network)
        above = delegate and administration.find_hash(place, delegate, known)
        locator = (secret or _read_secret()).strip()
        if administration.is_elsewhere(locator):
            key = None if public_key is None else PublicKey.read(public_key)
            made = administration.import_elsewhere(
                place, name, locator, known, above, start, key, os.environ
            )
        else:
            passwords = _passwords(password_filename)
            new_password = partial(_new_password, passwords) if encrypted else None
            made = administration.import_key(
                place, name, locator, known, above, start, passwords, new_password
            )
    _print_new_keys(place, [made], as_json)


def _read_secret() -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt("Secret key", hide_input=True, err=True)
        return typed
    return sys.stdin.readline()


def _passwords(file: Path | None) -> Passwords:
    """Return the known passwords; who is at the terminal is asked for more."""
    return Passwords.from_surroundings(file, _ask if sys.stdin.isatty() else None)


def _ask(name: str) -> bytes | None:
    typed: str = click.prompt(f"Password of {name}", hide_input=True, default="", err=True)
    return typed.encode() or None


def _new_password(passwords: Passwords) -> bytes:
    """Return the password to encrypt with: the first known one, else it is asked for, twice."""
    if passwords.first is not None:
        return passwords.first
    if not sys.stdin.isatty():
        raise click.UsageError(
            "Nobody is there to give a password: give --password-filename, or FORGEPOOL_PASSWORD."
        )
    typed: str = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    return typed.encode()


@contextmanager
def _progress(count: int) -> Iterator[Callable[[], object]]:
    """Show how far a long piece of work is, to people alone."""
    if count < _COUNT_SHOWN or not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=count, label="Encrypting", file=sys.stderr) as bar:
        yield lambda: bar.update(1)


def _print_new_keys(place: Place, made: list[NewKey], as_json: bool) -> None:
    if as_json:
        print_json([key._asdict() for key in made])
        return
    for key in made:
        click.echo(f"{key.key_hash}  {key.public_key or '-'}  {key.name}")
        if key.note:
            click.echo(key.note, err=True)
    if not made[0].enabled:
        click.echo(f"Not enabled: there is no store at {place.store_path} yet (forgepool init).")


@keys.command("list")
@state_dir_option
@base_dir_option
@json_option
def list_keys(state_dir: Path | None, base_dir: Path | None, as_json: bool) -> None:
    """List the keys of the directory and of the store, and which may sign."""
    with reporting(as_json):
        listed = list(administration.list_keys(place_of(state_dir, base_dir)))
    if as_json:
        print_json([key._asdict() for key in listed])
        return
    words = {True: "enabled", False: "disabled", None: "not enabled"}
    lines = [
        f"{key.key_hash:36}  {words[key.enabled]:11}  {key.curve or '-':9}  "
        f"{key.scheme or '-':11}  {key.name or '-'}"
        + (f"  for {key.delegate}" if key.delegate not in (None, key.key_hash) else "")
        for key in listed
    ]
    click.echo("\n".join(lines) if lines else "No keys: forgepool keys generate NAME")


@keys.command("enable")
@click.argument("names", nargs=-1, required=True, metavar="NAME|HASH...")
@_delegate
@_floor
@_fresh
@state_dir_option
@base_dir_option
@json_option
@yes_option
def enable_keys(
    names: tuple[str, ...],
    delegate: str | None,
    floor: int | None,
    fresh: bool,
    state_dir: Path | None,
    base_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Let keys sign, for themselves or as consensus keys of a delegate.

    Marks are kept; a key or delegate that has none needs --floor or --fresh.
    """
    start = _start(floor, fresh, yes)
    with reporting(as_json):
        hashes = administration.enable(place_of(state_dir, base_dir), names, delegate, start)
    _print_hashes("enabled", hashes, as_json)


@keys.command("disable")
@click.argument("names", nargs=-1, required=True, metavar="NAME|HASH...")
@state_dir_option
@base_dir_option
@json_option
def disable_keys(
    names: tuple[str, ...], state_dir: Path | None, base_dir: Path | None, as_json: bool
) -> None:
    """Let keys sign no more; their marks stay."""
    with reporting(as_json):
        hashes = administration.disable(place_of(state_dir, base_dir), names)
    _print_hashes("disabled", hashes, as_json)


def _print_hashes(what: str, hashes: list[str], as_json: bool) -> None:
    if as_json:
        print_json({what: hashes})
    else:
        click.echo("\n".join(f"{what} {key_hash}" for key_hash in hashes))


def _start(floor: int | None, fresh: bool, yes: bool) -> int | None:
    """Return where keys are said to stand; asks before they are taken for fresh."""
    if fresh and floor is not None:
        raise click.UsageError("--fresh and --floor exclude each other.")
    if not fresh:
        return floor
    confirm(
        "If this key or its delegate has signed anything on this chain that this store does not "
        "know of, signing it again can be slashed. Has it really never signed?",
        yes,
    )
    return FRESH
