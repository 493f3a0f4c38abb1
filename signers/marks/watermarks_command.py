"""The commands `forgepool watermarks …`: show, back up and restore marks, and bound them."""

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
from signers.formats.networks import network_by_name
from signers.interchange.doctor_command import doctor
from signers.interchange.interchange_command import (
    diff_watermarks,
    export_watermarks,
    import_watermarks,
)
from signers.keyring import key_administration as administration
from signers.marks import watermark_report
from signers.marks.store_copies import back_up, read_administration, read_store, restore
from signers.marks.watermark import EVERYONE


@click.group()
def watermarks() -> None:
    """The high watermarks: up to where each key and delegate has signed."""


for command in (export_watermarks, import_watermarks, diff_watermarks, doctor):
    watermarks.add_command(command)


@watermarks.command("show")
@click.argument("names", nargs=-1, metavar="[NAME|HASH]...")
@state_dir_option
@base_dir_option
@json_option
def show_watermarks(
    names: tuple[str, ...], state_dir: Path | None, base_dir: Path | None, as_json: bool
) -> None:
    """Show the marks of all keys and delegates, or of some; safe while the pool signs."""
    place = place_of(state_dir, base_dir)
    with reporting(as_json):
        view = read_store(place.store_path)
        network = network_by_name(view.identity.network)
        hashes = [administration.find_hash(place, name, network) for name in names]
    if as_json:
        print_json(watermark_report.as_record(view, hashes))
    else:
        click.echo(watermark_report.as_text(view, hashes))


@watermarks.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@state_dir_option
@json_option
def back_up_watermarks(file: Path, state_dir: Path | None, as_json: bool) -> None:
    """Write the store as of now to FILE; safe while the pool signs."""
    with reporting(as_json):
        view = back_up(place_of(state_dir).store_path, file)
    if as_json:
        print_json({"backup": str(file), "commit": view.content.seq})
        return
    click.echo(f"Wrote {file} as of commit {view.content.seq}.")
    click.echo("It knows nothing of what is signed from now on: restoring it needs a floor.")


@watermarks.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--floor",
    type=LEVEL,
    required=True,
    metavar="LEVEL",
    help="The level of the chain's head now: nothing of this level or below is signed.",
)
@state_dir_option
@json_option
@yes_option
def restore_watermarks(
    file: Path, floor: int, state_dir: Path | None, as_json: bool, yes: bool
) -> None:
    """Make the store of this host from a backup.

    What was signed after the backup is unknown to it, so the floor must be at or above every
    level that these keys may have signed: the level of the chain's head now. A store that is
    there is never replaced.
    """
    place = place_of(state_dir)
    confirm(
        f"Is every other pool with these keys stopped for good, and {floor} at or above every "
        "level that they have signed?",
        yes,
    )
    with reporting(as_json):
        place.make_state_dir()
        view = restore(file, place.store_path, floor)
    if as_json:
        print_json({"store": str(place.store_path), "floor": floor, "uuid": view.identity.uuid})
    else:
        click.echo(f"Made {place.store_path}; nothing up to level {floor} will be signed.")
        if view.content.marks.ceilings():
            click.echo("The ceilings of the backup hold here too: see `watermarks sign-until`.")


@watermarks.command("set-floor")
@click.argument("level", type=LEVEL)
@click.option("--key", "names", multiple=True, metavar="NAME|HASH", help="For this key.")
@click.option("--all", "everyone", is_flag=True, help="For everyone that the store knows.")
@state_dir_option
@base_dir_option
@json_option
@yes_option
def set_floor(
    level: int,
    names: tuple[str, ...],
    everyone: bool,
    state_dir: Path | None,
    base_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Sign nothing of LEVEL or below from now on; works while the pool signs.

    For keys and their delegates. Marks that stand higher stay: a floor never lowers anything,
    and it cannot be taken back.
    """
    if everyone == bool(names):
        raise click.UsageError("Give --key (as often as needed) or --all.")
    confirm(f"Nothing up to level {level} will ever be signed, and that stays so. Go on?", yes)
    with reporting(as_json):
        hashes = administration.raise_floors(place_of(state_dir, base_dir), names, level)
    if as_json:
        print_json({"floor": level, "holders": hashes})
    else:
        click.echo("\n".join(f"floor {level} for {key_hash}" for key_hash in hashes))


@watermarks.command("sign-until")
@click.argument("level", type=LEVEL, required=False)
@click.option("--clear", is_flag=True, help="Lift the ceiling instead.")
@click.option("--key", "names", multiple=True, metavar="NAME|HASH", help="For this key.")
@click.option("--all", "everyone", is_flag=True, help="For every key, also those to come.")
@state_dir_option
@base_dir_option
@json_option
@yes_option
def sign_until(
    level: int | None,
    clear: bool,
    names: tuple[str, ...],
    everyone: bool,
    state_dir: Path | None,
    base_dir: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Sign nothing above LEVEL from now on; works while the pool signs.

    For a move that is planned: this host signs until LEVEL, the next one from there. The ceiling
    of a delegate binds all his keys. `--clear --all` lifts every ceiling.
    """
    if everyone == bool(names):
        raise click.UsageError("Give --key (as often as needed) or --all.")
    if clear == (level is not None):
        raise click.UsageError("Give LEVEL or --clear.")
    if clear:
        question = "Does no other host sign with these keys above their ceilings, now or later?"
    else:
        question = f"Nothing above level {level} will be signed until this is cleared. Go on?"
    confirm(question, yes)
    with reporting(as_json):
        hashes = administration.set_ceilings(place_of(state_dir, base_dir), names, level)
    if as_json:
        print_json({"sign_until": level, "holders": [each or None for each in hashes]})
        return
    names_of = ["everyone" if each == EVERYONE else each for each in hashes]
    done = "no ceiling" if level is None else f"ceiling {level}"
    click.echo("\n".join(f"{done} for {name}" for name in names_of) or "There was no ceiling.")


@watermarks.command("log")
@state_dir_option
@json_option
def show_log(state_dir: Path | None, as_json: bool) -> None:
    """Show what was changed by hand: when, by whom, with which command, and what."""
    with reporting(as_json):
        entries = read_administration(place_of(state_dir).store_path)
    if as_json:
        print_json(watermark_report.log_as_record(entries))
    else:
        click.echo(watermark_report.log_as_text(entries))
