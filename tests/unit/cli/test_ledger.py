"""`strongroom ledger`: exports that go forward, and proofs that hold without any store."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli.support.connection import at_console
from gateway.config import load
from tests.support.tile_client import read_log
from tests.unit.cli.here import Program
from tests.unit.cli.test_acts import Installation, installation
from vault.catalogue import ledger_keys
from vault.ledger import tiles
from vault.ledger.note import verifier_key


@pytest.fixture
def made():
    with installation() as there:
        yield there


@pytest.fixture
def program(made: Installation, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(capsys, made.config)


@pytest.fixture
def bare(capsys: pytest.CaptureFixture[str]) -> Program:
    """The program where no installation is."""
    return Program(capsys)


def grow(program: Program) -> None:
    assert program("hold", "place", "--client", "acme", "--reason", "x").code == 0


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_export_of_tiles_goes_forward_and_an_independent_client_reads_it(
    program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    before = 0
    for _ in range(3):
        result = program.json("ledger", "export", folder, "--tiles")
        assert result["before"] == before
        before = result["entries"]
        assert len(read_log(lambda name: (folder / name).read_bytes())) == before
        every = (*tiles.full_between(0, before), *tiles.partials(before))
        assert {tile.path for tile in every} | {"checkpoint", "keys/0"} <= files(folder)
        assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {
            0o644
        }
        grow(program)


def test_partial_tiles_go_when_the_full_one_is_there(
    made: Installation, program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    program.json("ledger", "export", folder, "--tiles")
    partial = {name for name in files(folder) if ".p/" in name}
    assert partial
    with at_console(load(Path(made.config))) as desk:
        for _ in range(260):
            desk.act("hold.place", {"client": "acme", "reason": "x"})
    program.json("ledger", "export", folder, "--tiles")
    assert partial.isdisjoint(files(folder))
    assert "tile/0/000" in files(folder)
    read_log(lambda name: (folder / name).read_bytes())


def test_a_folder_that_holds_something_else_or_another_history_is_refused_as_it_is(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"x")
    assert "photo.jpg" in program("ledger", "export", folder, "--tiles").one_line(2)
    (folder / "photo.jpg").unlink()
    (tmp_path / "file").touch()
    assert "Not a directory" in program("ledger", "export", tmp_path / "file", "--tiles").one_line(
        2
    )
    with installation() as other:
        # Another history under the same key: the two parted before either had this entry.
        grow(Program(capsys, other.config))
        Program(capsys, other.config)("ledger", "export", folder, "--tiles")
        grow(program)
        there = {name: (folder / name).read_bytes() for name in files(folder)}
        assert "rewritten or forked" in program("ledger", "export", folder, "--tiles").one_line(1)
        assert there == {name: (folder / name).read_bytes() for name in files(folder)}
    (folder / "checkpoint").write_text("nothing\n")
    assert "signed checkpoint" in program("ledger", "export", folder, "--tiles").one_line(1)


def test_an_export_that_is_ahead_of_the_ledger_is_refused(
    made: Installation, program: Program, tmp_path: Path
) -> None:
    """The catalogue was put back from an older copy."""
    vault = Path(made.config).parent / "vault"
    shutil.copytree(vault, tmp_path / "older")
    grow(program)
    program.json("ledger", "export", tmp_path / "export", "--tiles")
    shutil.rmtree(vault)
    shutil.copytree(tmp_path / "older", vault)
    assert "older copy" in program("ledger", "export", tmp_path / "export", "--tiles").one_line(1)


def test_every_entry_s_proof_is_verified_without_a_store_and_no_changed_byte_of_it(
    program: Program, bare: Program, tmp_path: Path
) -> None:
    size = program.json("status")["ledger"]["entries"]
    vkey = program.json("ledger", "checkpoint")["vkey"]
    proof = tmp_path / "proof"
    for index in (0, 1, size - 1):
        shown = program.json("ledger", "prove", index)
        text = program("ledger", "prove", index).out
        assert text.startswith("c2sp.org/tlog-proof@v1\n")
        proof.write_text(text)
        found = bare("ledger", "verify-proof", proof, "--vkey", vkey, "--json").data
        assert (found["index"], found["entry"], found["signed_by"]) == (index, shown["entry"], vkey)
    for changed in (
        text.replace("index ", "index 1"),
        text.replace("extra ", "extra AAAA"),
        text.replace("extra ", "remark ", 1),
        text.replace("strongroom.invalid", "strongroom.invalie"),
        text.partition("\n\n")[0],
        "",
    ):
        proof.write_text(changed)
        bare("ledger", "verify-proof", proof, "--vkey", vkey).one_line(1)
    proof.write_text(text)
    stranger = Ed25519PrivateKey.generate().public_key()
    theirs = verifier_key(vkey.partition("+")[0], stranger)
    bare("ledger", "verify-proof", proof, "--vkey", theirs).one_line(1)
    assert f"below {size}" in program("ledger", "prove", size).one_line(1)


def test_two_checkpoints_are_shown_to_be_of_one_history_without_a_store(
    program: Program, bare: Program, tmp_path: Path
) -> None:
    vkey = program.json("ledger", "checkpoint")["vkey"]
    (tmp_path / "keys").write_text(f"{vkey}\n")
    old, new, proof = tmp_path / "old", tmp_path / "new", tmp_path / "proof"
    old.write_text(program("ledger", "checkpoint").out)
    for _ in range(5):
        grow(program)
    new.write_text(program("ledger", "checkpoint").out)
    first, last = (int(path.read_text().split("\n")[1]) for path in (old, new))
    proof.write_text(program("ledger", "consistency", first).out)
    assert proof.read_text() == program("ledger", "consistency", first, last).out
    assert all(len(base64.b64decode(line)) == 32 for line in proof.read_text().split())
    verify = ("ledger", "verify-proof", proof, "--vkey", tmp_path / "keys")
    found = bare(*verify, "--old", old, "--new", new, "--json").data
    assert (found["old"], found["new"]) == (first, last)
    bare(*verify, "--old", new, "--new", old).one_line(1)
    bare(*verify, "--old", old).one_line(2)
    lines = proof.read_text().splitlines(keepends=True)
    for changed in ("".join(lines[1:]), "".join(lines[::-1]), "not base64 !\n"):
        proof.write_text(changed)
        bare(*verify, "--old", old, "--new", new).one_line(1)
    for sizes in ((0, 1), (2, 1), (1, last + 1)):
        program("ledger", "consistency", *sizes).one_line(1)


async def test_an_auditor_sees_checkpoint_keys_hand_overs_and_entries_over_sftp(house) -> None:
    first = (await house.act("ledger.checkpoint"))["vkey"]
    assert await house.names("/ledger", "auditor") == [
        "checkpoint", "ledger.vkey", "ledger.vkeys", "entries-000000000000.jsonl",
    ]  # fmt: skip
    assert await house.read("/ledger/ledger.vkeys", "auditor") == f"{first}\n".encode()
    await house.act("keys.rotate", what="ledger")
    second = (await house.act("ledger.checkpoint"))["vkey"]
    assert second != first
    keys = (await house.read("/ledger/ledger.vkeys", "auditor")).decode().split()
    assert keys == [first, second]
    assert (await house.read("/ledger/ledger.vkey", "auditor")).decode().split() == [second]
    (name,) = [n for n in await house.names("/ledger", "auditor") if n.startswith("hand-over")]
    note = (await house.read(f"/ledger/{name}", "auditor")).decode()
    index = int(name.rpartition("-")[2])
    origin = house.core.store.origin
    assert ledger_keys.read_handover(note, origin, index, first) == second
    view = await house.view("auditor")
    size = (await view.stat(("ledger", name))).size
    assert size == len(note.encode())
