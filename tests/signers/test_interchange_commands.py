"""`forgepool watermarks export`, `import` and `diff`, as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from interchange_cases import (
    CHAIN,
    CHAIN_TEXT,
    DIGEST,
    OTHER_CHAIN,
    OTHER_CHAIN_TEXT,
    OTHER_DIGEST,
    SIGNATURE,
    TZ1,
    TZ2,
    TZ3,
    TZ4,
    at,
)
from watermark_cases import code, sign

from signers.formats.networks import TEZOS
from signers.formats.signable import Kind
from signers.interchange.baker_file import write_baker_file
from signers.interchange.forgepool_file import write_forgepool_file
from signers.interchange.octez_signer_file import write_octez_signer_file
from signers.interchange.recorded_mark import RecordedMark
from signers.interchange.signatory_file import write_signatory_file
from signers.marks.store_copies import read_administration, read_store
from signers.marks.watermark import FRESH, MARKED_KINDS, floor_mark, is_floor
from signers.marks.watermark_store import WatermarkStore
from signers.marks.watermarks_command import watermarks

BAKER_NAME = "NetXdQprcVkpa_highwatermarks"
SIGNATORY_NAME = f"{CHAIN_TEXT}.json"
FORMATS = ["forgepool", "baker", "octez-signer", "octez-signer-old", "signatory"]


def run(*words: Any, ends: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(watermarks, [str(word) for word in words], **options)
    assert result.exit_code == ends, result.output + repr(result.exception)
    return result


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of mainnet: TZ1 signs for itself, TZ2 for TZ4, which has no key here."""
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "watermarks.db"
    WatermarkStore.create(path, network="tezos", chain_id=CHAIN)
    with WatermarkStore.open(path, wal_bytes=0) as store, store.begin() as transaction:
        transaction.enable(TZ1, TZ1, floor=FRESH)
        transaction.enable(TZ2, TZ4, floor=10)
        transaction.commit()
    return path


def mark(path: Path, holder: str, kind: Kind = Kind.ATTESTATION) -> Any:
    return read_store(path).content.marks.mark(holder, kind)


def signed(path: Path, *requests: tuple[str, Any]) -> list[str]:
    with WatermarkStore.open(path, wal_bytes=0) as store:
        return [code(verdict) for key, asked in requests for verdict in sign(store, key, asked)]


def actions(result: Result) -> dict[tuple[str, str], str]:
    marks = as_json(result)["marks"]
    return {(each["holder"], each["kind"]): each["action"] for each in marks}


# -- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_exported_equals_the_store(pool: Path, tmp_path: Path, format: str) -> None:
    signed(pool, (TZ1, at(20, 3)), (TZ1, at(21, kind=Kind.BLOCK)), (TZ2, at(22)))
    out = tmp_path / "out"
    run("export", out, "--format", format)
    assert run("diff", out).exit_code == 0
    signed(pool, (TZ1, at(21)))
    differs = run("diff", out, ends=1)
    assert "store_higher" in differs.stdout


def test_files_get_the_names_that_their_signer_looks_for(pool: Path, tmp_path: Path) -> None:
    for format in FORMATS[1:]:
        files = as_json(run("export", tmp_path / format, "--format", format, "--json"))["files"]
        assert all(Path(file).stat().st_mode & 0o777 == 0o600 for file in files)
    names = {
        format: sorted(p.name for p in (tmp_path / format).iterdir()) for format in FORMATS[1:]
    }
    assert names == {
        "baker": [BAKER_NAME],
        "octez-signer": [
            "attestation_high_watermarks",
            "block_high_watermarks",
            "preattestation_high_watermarks",
        ],
        "octez-signer-old": [
            "block_high_watermarks",
            "endorsement_high_watermarks",
            "preendorsement_high_watermarks",
        ],
        "signatory": [SIGNATORY_NAME],
    }


def test_other_signers_are_told_the_mark_of_the_delegate(pool: Path, tmp_path: Path) -> None:
    with WatermarkStore.open(pool, wal_bytes=0) as store, store.begin() as transaction:
        transaction.enable(TZ1, TZ4)
        transaction.commit()
    signed(pool, (TZ2, at(50, 1)))
    run("export", tmp_path, "--format", "octez-signer")
    attestations = json.loads((tmp_path / "attestation_high_watermarks").read_text())
    assert attestations[CHAIN_TEXT][TZ1] == {"level": 50, "round": 1, "hash": DIGEST.hex()}


def test_an_export_replaces_nothing(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "endorsement_high_watermarks").write_text("older")
    refused = run("export", tmp_path, "--format", "octez-signer-old", "--json", ends=1)
    assert as_json(refused)["code"] == "file_exists"
    assert (tmp_path / "endorsement_high_watermarks").read_text() == "older"
    assert not (tmp_path / "block_high_watermarks").exists()
    assert not list(tmp_path.glob("*.new-*"))


def test_our_own_format_carries_everything_to_an_empty_store(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "attestation_high_watermarks"
    recorded = [RecordedMark(TZ1, at(30, 2), SIGNATURE)]
    source.write_bytes(write_octez_signer_file(recorded, Kind.ATTESTATION, TEZOS))
    run("import", source, "--yes")
    run("export", tmp_path / "marks.json")
    before = read_store(pool)
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "watermarks.db"
    WatermarkStore.create(path, network="tezos", chain_id=CHAIN)
    run("import", tmp_path / "marks.json", "--enter-unknown", "--yes")
    after = read_store(path)
    assert after.signatures == before.signatures == {(TZ1, Kind.ATTESTATION): SIGNATURE}
    for holder in (TZ1, TZ2, TZ4):
        for kind in MARKED_KINDS:
            marks = after.content.marks.mark(holder, kind)
            assert marks == before.content.marks.mark(holder, kind)


# -- import ---------------------------------------------------------------------------------------


def test_an_import_raises_what_is_lower_and_lowers_nothing(pool: Path, tmp_path: Path) -> None:
    signed(pool, (TZ1, at(20)), (TZ1, at(25, kind=Kind.BLOCK)))
    source = tmp_path / BAKER_NAME
    source.write_bytes(
        write_baker_file(
            [
                RecordedMark(TZ1, at(30, 2, b"")),
                RecordedMark(TZ1, at(24, 9, b"", Kind.BLOCK)),
            ]
        )
    )
    done = run("import", source, "--yes", "--json")
    assert actions(done) == {(TZ1, "attestation"): "raised", (TZ1, "block"): "kept"}
    assert as_json(done)["marks"][1]["before"]["level"] == 20
    assert signed(
        pool,
        (TZ1, at(30, 2)),  # the baker may have signed other bytes here
        (TZ1, at(30, 1)),
        (TZ1, at(25, kind=Kind.BLOCK)),
        (TZ1, at(30, 3)),
    ) == ["watermark_conflict", "watermark_below", "repeat", "advance"]
    assert "attestation level 30 round 2" in read_administration(pool)[-1].changes[0]
    assert read_administration(pool)[-1].command == "watermarks import"


def test_the_mark_of_a_consensus_key_raises_that_of_its_delegate(
    pool: Path, tmp_path: Path
) -> None:
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file([RecordedMark(TZ2, at(30))]))
    done = actions(run("import", source, "--yes", "--json"))
    assert done == {(TZ2, "attestation"): "raised", (TZ4, "attestation"): "raised"}
    assert mark(pool, TZ2) == mark(pool, TZ4) == at(30)


def test_a_block_of_a_p256_key_is_not_signed_again(pool: Path, tmp_path: Path) -> None:
    block = at(30, kind=Kind.BLOCK)
    recorded = [RecordedMark(TZ3, block, SIGNATURE), RecordedMark(TZ1, block, SIGNATURE)]
    source = tmp_path / "block_high_watermarks"
    source.write_bytes(write_octez_signer_file(recorded, Kind.BLOCK, TEZOS))
    attestations = [RecordedMark(TZ3, at(30), SIGNATURE)]
    content = write_octez_signer_file(attestations, Kind.ATTESTATION, TEZOS)
    (tmp_path / "attestation_high_watermarks").write_bytes(content)
    run("import", tmp_path, "--enter-unknown", "--yes")
    with WatermarkStore.open(pool, wal_bytes=0) as store, store.begin() as transaction:
        transaction.enable(TZ3, TZ3)
        transaction.commit()
    assert signed(pool, (TZ3, block), (TZ3, at(30)), (TZ1, block)) == [
        "watermark_conflict",
        "repeat",
        "repeat",
    ]
    assert run("diff", tmp_path, ends=1).stdout.count("conflict") == 0


def test_a_pool_that_has_the_store_open_obeys_at_once(pool: Path, tmp_path: Path) -> None:
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file([RecordedMark(TZ1, at(30))]))
    with WatermarkStore.open(pool, wal_bytes=0) as store:
        assert code(sign(store, TZ1, at(20))[0]) == "advance"
        run("import", source, "--yes")
        assert code(sign(store, TZ1, at(29))[0]) == "watermark_below"
        assert code(sign(store, TZ1, at(30))[0]) == "repeat"


def test_a_dry_run_changes_nothing_and_says_what_would_be(pool: Path, tmp_path: Path) -> None:
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file([RecordedMark(TZ1, at(30))]))
    before = read_administration(pool)
    told = run("import", source, "--dry-run").stdout
    assert "raised" in told
    assert "nothing signed -> level 30 round 0" in told
    assert "Nothing was changed" in told
    assert mark(pool, TZ1).level == FRESH
    assert read_administration(pool) == before


def test_an_import_is_asked_for(pool: Path, tmp_path: Path) -> None:
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file([RecordedMark(TZ1, at(30))]))
    refused = run("import", source, ends=2)
    assert "level 30" in refused.stderr
    assert mark(pool, TZ1).level == FRESH


def test_other_bytes_at_one_place_are_a_conflict_and_the_store_keeps_its_own(
    pool: Path, tmp_path: Path
) -> None:
    signed(pool, (TZ1, at(30)))
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file([RecordedMark(TZ1, at(30, 0, OTHER_DIGEST))]))
    assert "conflict" in run("import", source, "--yes").stdout
    assert mark(pool, TZ1) == at(30)
    assert "conflict" in run("diff", source, ends=1).stdout


def test_an_unknown_key_is_told_and_only_entered_when_asked(pool: Path, tmp_path: Path) -> None:
    stranger = "tz1WGcYos3hL7GXYXjKrMnSFdkT7FyXnFBvf"
    source = tmp_path / SIGNATORY_NAME
    recorded = [RecordedMark(stranger, at(30, 1)), RecordedMark(stranger, at(40, kind=Kind.BLOCK))]
    source.write_bytes(write_signatory_file(recorded))
    told = run("import", source, "--yes").stdout
    assert "2 unknown; unknown keys are entered with --enter-unknown only" in told
    assert stranger not in read_store(pool).content.marks.holders()
    run("import", source, "--enter-unknown", "--yes")
    assert mark(pool, stranger) == at(30, 1)
    assert mark(pool, stranger, Kind.PREATTESTATION) == floor_mark(Kind.PREATTESTATION, CHAIN, 40)
    assert is_floor(mark(pool, stranger, Kind.DAL_ATTESTATION))
    assert signed(pool, (stranger, at(41))) == ["key_disabled"]
    with WatermarkStore.open(pool, wal_bytes=0) as store, store.begin() as transaction:
        transaction.enable(stranger, stranger)  # its marks say where it stands
        transaction.commit()
    assert signed(pool, (stranger, at(30)), (stranger, at(31))) == ["watermark_below", "advance"]


def test_the_old_and_new_files_of_octez_signer_are_read_together(
    pool: Path, tmp_path: Path
) -> None:
    for name, level in (("endorsement", 40), ("attestation", 50), ("preendorsement", 45)):
        recorded = [RecordedMark(TZ1, at(level, 0, DIGEST, Kind.ATTESTATION))]
        content = write_octez_signer_file(recorded, Kind.ATTESTATION, TEZOS)
        (tmp_path / f"{name}_high_watermarks").write_bytes(content)
    run("import", tmp_path, "--yes")
    assert mark(pool, TZ1) == at(50)
    assert mark(pool, TZ1, Kind.PREATTESTATION).level == 45


def test_signatorys_base_directory_is_enough(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "watermark_v2").mkdir()
    content = write_signatory_file([RecordedMark(TZ1, at(30))])
    (tmp_path / "watermark_v2" / SIGNATORY_NAME).write_bytes(content)
    (tmp_path / "watermark_v2" / f"{OTHER_CHAIN_TEXT}.json").write_bytes(content)
    told = run("import", tmp_path, "--yes").stdout
    assert f"{OTHER_CHAIN_TEXT}.json: of another chain" in told
    assert mark(pool, TZ1) == at(30)


# -- which file it is, and of which chain ---------------------------------------------------------


def contents() -> dict[str, bytes]:
    other = RecordedMark(TZ1, at(30, chain=OTHER_CHAIN))
    return {
        "NetXxkAx4woPL_highwatermarks": write_baker_file([other]),
        f"{OTHER_CHAIN_TEXT}.json": write_signatory_file([other]),
        "attestation_high_watermarks": write_octez_signer_file([other], Kind.ATTESTATION, TEZOS),
        "ours.json": write_forgepool_file([other], OTHER_CHAIN, TEZOS),
    }


@pytest.mark.parametrize("name", contents())
@pytest.mark.parametrize("command", ["import", "diff"])
def test_marks_of_another_chain_are_refused(
    pool: Path, tmp_path: Path, name: str, command: str
) -> None:
    (tmp_path / name).write_bytes(contents()[name])
    given = ["--yes"] if command == "import" else []
    sources = [tmp_path / name] if name == "ours.json" else [tmp_path / name, tmp_path]
    for source in sources:
        refused = run(command, source, *given, "--json", ends=1)
        assert as_json(refused)["code"] == "wrong_chain"
    assert mark(pool, TZ1).level == FRESH


def test_a_file_of_another_chain_is_refused_without_marks_too(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.json").write_bytes(write_forgepool_file([], OTHER_CHAIN, TEZOS))
    refused = as_json(run("import", tmp_path / "ours.json", "--yes", "--json", ends=1))
    assert refused["code"] == "wrong_chain"
    assert OTHER_CHAIN_TEXT in refused["error"]


def test_of_several_chains_in_one_file_the_stores_is_taken(pool: Path, tmp_path: Path) -> None:
    recorded = [RecordedMark(TZ1, at(30)), RecordedMark(TZ1, at(99, chain=OTHER_CHAIN))]
    source = tmp_path / "attestation_high_watermarks"
    source.write_bytes(write_octez_signer_file(recorded, Kind.ATTESTATION, TEZOS))
    told = run("import", source, "--yes").stdout
    assert f"{OTHER_CHAIN_TEXT}.{TZ1}: of another chain" in told
    assert mark(pool, TZ1) == at(30)


def test_a_file_whose_name_tells_no_chain_needs_it_told(pool: Path, tmp_path: Path) -> None:
    source = tmp_path / "copy"
    source.write_bytes(write_baker_file([RecordedMark(TZ1, at(30, 0, b""))]))
    for given, refused in (
        ((), "unknown_format"),
        (("--format", "baker"), "unknown_format"),
        (("--format", "baker", "--chain-id", OTHER_CHAIN_TEXT), "wrong_chain"),
        (("--format", "baker", "--chain-id", "NetX"), "malformed"),
        (("--format", "octez-signer", "--chain-id", "mainnet"), "unknown_format"),
        (("--format", "signatory", "--chain-id", "mainnet"), "malformed_marks"),
    ):
        told = as_json(run("import", source, *given, "--yes", "--json", ends=1))
        assert told["code"] == refused, told
    run("import", source, "--format", "baker", "--chain-id", CHAIN_TEXT, "--yes")
    assert mark(pool, TZ1) == at(30, 0, b"")


def test_the_name_of_a_file_outweighs_what_is_said_of_its_chain(pool: Path, tmp_path: Path) -> None:
    source = tmp_path / "NetXxkAx4woPL_highwatermarks"
    source.write_bytes(write_baker_file([RecordedMark(TZ1, at(30, 0, b""))]))
    refused = run("import", source, "--chain-id", CHAIN_TEXT, "--yes", "--json", ends=1)
    assert as_json(refused)["code"] == "wrong_chain"


def test_a_directory_of_two_signers_needs_a_format(pool: Path, tmp_path: Path) -> None:
    content = write_baker_file([RecordedMark(TZ1, at(30, 0, b""))])
    (tmp_path / BAKER_NAME).write_bytes(content)
    (tmp_path / SIGNATORY_NAME).write_bytes(write_signatory_file([RecordedMark(TZ1, at(35))]))
    told = run("import", tmp_path, "--yes", ends=1).stderr
    assert "baker and signatory: give --format" in told
    run("import", tmp_path, "--format", "signatory", "--yes")
    assert mark(pool, TZ1) == at(35)


def test_a_file_of_the_chain_may_be_empty_beside_one_of_another(pool: Path, tmp_path: Path) -> None:
    (tmp_path / BAKER_NAME).write_text("{}")
    (tmp_path / "NetXxkAx4woPL_highwatermarks").write_text("{}")
    told = run("import", tmp_path, "--yes").stdout
    assert "NetXxkAx4woPL_highwatermarks: of another chain" in told
    assert "no marks in the file" in told


def test_a_directory_without_marks_says_so(pool: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = run("diff", tmp_path / "empty", "--json", ends=1)
    assert as_json(told)["code"] == "unknown_format"


def test_a_broken_file_is_named_and_nothing_of_it_is_used(pool: Path, tmp_path: Path) -> None:
    recorded = [RecordedMark(TZ1, at(30)), RecordedMark(TZ2, at(31))]
    content = json.loads(write_signatory_file(recorded))
    content[TZ2]["attestation"]["level"] = -1
    source = tmp_path / SIGNATORY_NAME
    source.write_text(json.dumps(content))
    told = run("import", source, "--yes", ends=1).stderr
    assert f"{source}: {TZ2}.attestation.level: an integer from 0" in told
    assert mark(pool, TZ1).level == FRESH


# -- diff -----------------------------------------------------------------------------------------


def test_a_diff_tells_each_way_in_which_marks_differ(pool: Path, tmp_path: Path) -> None:
    stranger = "tz1WGcYos3hL7GXYXjKrMnSFdkT7FyXnFBvf"
    signed(pool, (TZ1, at(20)), (TZ1, at(20, kind=Kind.BLOCK)), (TZ2, at(20)))
    recorded = [
        RecordedMark(TZ1, at(30)),
        RecordedMark(TZ1, at(19, kind=Kind.BLOCK)),
        RecordedMark(TZ2, at(20, 0, OTHER_DIGEST)),
        RecordedMark(TZ2, at(10, 2**31 - 1, b"", Kind.BLOCK)),
        RecordedMark(stranger, at(5)),
    ]
    source = tmp_path / SIGNATORY_NAME
    source.write_bytes(write_signatory_file(recorded))
    told = as_json(run("diff", source, "--json", ends=1))["marks"]
    standing = {(each["holder"], each["kind"]): each["standing"] for each in told}
    assert standing == {
        (TZ1, "attestation"): "file_higher",
        (TZ1, "block"): "store_higher",
        (TZ2, "attestation"): "conflict",
        (TZ2, "block"): "same",
        (TZ2, "preattestation"): "only_in_store",
        (TZ4, "block"): "only_in_store",
        (TZ4, "preattestation"): "only_in_store",
        (TZ4, "attestation"): "only_in_store",
        (stranger, "attestation"): "only_in_file",
    }
    lines = run("diff", source, ends=1).stdout
    assert "store: level 20 round 0" in lines
    assert "file: nothing" in lines
