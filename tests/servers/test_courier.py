"""The courier keeps registered keyring copies in step, and a certificate says so, or says that it has not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.core.outbound.marker import COPIES as MARKER
from gateway.errors import Refusal
from gateway.install import create
from tests.support.core_process import CoreProcess
from tests.support.sshd import MISSING, Sshd, ssh_key
from tests.support.wire import Admin, Door, inspect_one, until

NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"


@pytest.fixture
def place():
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def installation(place: Path, *sections: str | Path) -> Path:
    """An installation with copies: a folder, or the lines of a section."""
    folder = place / "i"
    create.create(folder, datetime.now(UTC), demo=True)
    configure(folder, *sections)
    return folder


def configure(folder: Path, *sections: str | Path) -> None:
    """Replace the registered copies in the configuration."""
    config = folder / "config.toml"
    text = config.read_text().partition("\n[[keyring.copies]]")[0]
    for section in sections:
        if isinstance(section, Path):
            section = f'name = "other-disk"\ndirectory = "{section}"'
        text += f"\n[[keyring.copies]]\n{section}\n"
    config.write_text(text)


def sftp_section(server: Sshd, **changes: str) -> str:
    values = {
        "name": "other-house",
        "sftp": server.address(),
        "host_key": server.host_key,
        "key": str(server.key),
    }
    return "\n".join(f'{key} = "{value}"' for key, value in (values | changes).items())


def admin_of(folder: Path) -> Admin:
    return Admin(folder / "run" / "admin.sock", folder / "demo")


def in_step(admin: Admin, seconds: float = 60) -> None:
    until(lambda: not admin.call("status")["copies_behind"], seconds)


def failure(admin: Admin) -> str:
    """Why a place is behind, once it is known."""
    return until(
        lambda: next((x["failure"] for x in admin.call("status")["copies_behind"]), ""), 40
    )


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def keyrings(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.keyring")}


def stored(folder: Path) -> dict[str, bytes]:
    return keyrings(folder / "vault" / "keyrings")


@pytest.fixture
def sshd(place):
    if MISSING:
        pytest.skip(MISSING)
    server = Sshd(place / "sshd")
    yield server
    server.stop()


def courier(folder: Path) -> CoreProcess:
    return CoreProcess(
        folder,
        [sys.executable, "-m", "gateway.cli", "courier", "-c", str(folder / "config.toml")],
    )


def destroy_a_note(folder: Path) -> dict:
    """Upload, inspect, dispose; returns the certificate."""
    admin = Admin(folder / "run" / "admin.sock", folder / "demo")
    door = Door(folder / "run" / "sftp.sock", "acme", folder / "demo" / "acme")
    door.upload("/inbox/note.txt", NOTE)
    door.close()
    while any(d["state"] == "RECEIVED" for d in admin.call("document.list")):
        inspect_one(folder / "run" / "inspect.sock")
    (batch,) = admin.call("disposal.propose")
    admin.approve(batch["id"], "officer1")
    admin.approve(batch["id"], "officer2")
    done = admin.call("disposal.execute", by="officer3", id=batch["id"])
    return json.loads(admin.call("certificate.show", id=done["certificate"])["json"])["body"]


def test_a_reachable_copy_follows_before_the_certificate_and_is_named_in_it(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    with CoreProcess(folder), courier(folder):
        body = destroy_a_note(folder)
        assert body["claim"]["level"] == "L2"
        assert [(c["place"], c["kind"], c["state"]) for c in body["copies"]] == [
            (str(copies), "keyring", "destroyed")
        ]
        (original,) = [
            path for path in (folder / "vault/keyrings").iterdir() if "house" not in path.name
        ]
        # The old copy, with the old groups in it, is gone: what lies there is the new epoch.
        owner = original.name.split(".")[0]
        assert (copies / f"{owner}.keyring").read_bytes() == original.read_bytes()
        assert (copies / "house.keyring").is_file()
        status = Admin(folder / "run" / "admin.sock", folder / "demo").call("status")
        assert status["copies_behind"] == []


def test_an_unreachable_copy_lowers_the_claim_and_stays_visible_until_it_has_caught_up(place):
    copies = place / "unplugged"  # not there
    folder = installation(place, copies)
    admin = Admin(folder / "run" / "admin.sock", folder / "demo")
    with CoreProcess(folder), courier(folder):
        body = destroy_a_note(folder)
        assert (
            body["claim"]["level"] == "L1"
        )  # nothing is known to be wrong, and a copy still lives
        assert [c["state"] for c in body["copies"]] == ["live"]
        (behind,) = admin.call("status")["copies_behind"]
        assert behind["target"] == "other-disk"
        assert behind["failure"]
        copies.mkdir(mode=0o700)
        until(lambda: not admin.call("status")["copies_behind"], 90)
        assert keyrings(copies) == stored(folder)


def test_what_the_courier_carries_is_sealed(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    with CoreProcess(folder) as core, courier(folder):
        destroy_a_note(folder)
        core.stop()
    from vault.keys.keyring import KeyringStore
    from vault.keys.root import FileRootKey

    (copy,) = [path for path in copies.glob("*.keyring") if path.name != "house.keyring"]
    owner = copy.name.removesuffix(".keyring")
    keyring = KeyringStore(folder / "vault/keyrings", FileRootKey.load(folder / "root.key")).load(
        owner
    )
    held = copy.read_bytes()
    for secret in [group.key for group in keyring.groups.values()] + list(keyring.secrets.values()):
        assert secret not in held


# ── the place itself ─────────────────────────────────────────────────────────────────────────────


def test_a_place_is_marked_as_this_store_s_and_a_disk_that_is_not_mounted_gets_nothing(place):
    """An empty mount point looks like a fresh folder: what was there before tells them apart."""
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        in_step(admin)
        origin = admin.call("status")["ledger"]["origin"]
        marker = json.loads((copies / MARKER).read_text())
        assert marker == {"format": 1, "store": origin.rpartition("/")[2]}
        copies.rename(place / "away")
        copies.mkdir(mode=0o700)
        admin.call("client.add", name="New Ltd", slug="new")
        assert "mounted" in failure(admin)
        assert list(copies.iterdir()) == []
        copies.rmdir()
        (place / "away").rename(copies)
        in_step(admin)
        assert keyrings(copies) == stored(folder)


def test_a_place_of_another_store_is_left_as_it_is(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    (copies / MARKER).write_text('{"format":1,"store":"somebody-else"}')
    folder = installation(place, copies)
    with CoreProcess(folder), courier(folder):
        assert "another store" in failure(admin_of(folder))
        assert listing(copies) == [MARKER]


def test_a_closed_client_s_copy_is_removed_and_the_house_s_stays(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        admin.call("client.add", name="New Ltd", slug="new")
        in_step(admin)
        before = set(keyrings(copies))
        assert len(before) == 3
        admin.call("client.close", slug="new")
        until(lambda: len(keyrings(copies)) == 2, 30)
        in_step(admin)
        assert set(keyrings(copies)) < before
        assert "house.keyring" in keyrings(copies)
        assert keyrings(copies) == stored(folder)


# ── another host, by SFTP ────────────────────────────────────────────────────────────────────────


def test_a_host_that_was_down_catches_up_by_itself_and_gets_each_change_after(place, sshd):
    sshd.stop()
    folder = installation(place, sftp_section(sshd))
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        assert failure(admin).startswith("other-house: sftp://127.0.0.1")
        (row,) = admin.call("keys.copies")
        assert (row["state"], row["delivered_at"], row["waiting"]) == ("behind", None, 2)
        assert row["behind_since"]
        sshd.start()
        in_step(admin)
        assert keyrings(sshd.home) == stored(folder)
        body = destroy_a_note(folder)
        (listed,) = body["copies"]
        assert listed["place"] == sshd.address()
        in_step(admin)
        assert keyrings(sshd.home) == stored(folder)
        (row,) = admin.call("keys.copies")
        assert row["state"] == "in step"


@pytest.mark.parametrize("fault", ["host key", "mode", "stranger"])
def test_a_host_or_a_key_that_is_not_right_gets_nothing_and_the_reason_is_shown(place, sshd, fault):
    other = ssh_key(place / "other")
    changes, words = {
        "host key": ({"host_key": other.with_suffix(".pub").read_text().strip()}, "host key"),
        "mode": ({}, "mode 0600"),
        "stranger": ({"key": str(other)}, "to be let in"),
    }[fault]
    if fault == "mode":
        sshd.key.chmod(0o644)
    folder = installation(place, sftp_section(sshd, **changes))
    with CoreProcess(folder), courier(folder) as carrier:
        assert words in failure(admin_of(folder))
        assert listing(sshd.home) == []
        assert carrier.process.poll() is None


# ── places that are taken out ────────────────────────────────────────────────────────────────────


def test_a_withdrawn_place_is_in_every_certificate_until_an_officer_settles_it(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        in_step(admin)
        with pytest.raises(Refusal, match="taken out of the configuration first"):
            admin.call("keys.settle", by="officer1", name="other-disk", statement="gone")
    configure(folder)
    with CoreProcess(folder), courier(folder):
        (row,) = admin.call("keys.copies")
        assert row["state"] == "withdrawn"
        (shown,) = admin.call("status")["copies_behind"]
        assert (shown["target"], shown["waiting"]) == ("other-disk", 0)
        body = destroy_a_note(folder)
        assert [(c["place"], c["state"]) for c in body["copies"]] == [(str(copies), "live")]
        # It is an officer's word, with words, once.
        with pytest.raises(Refusal, match="officer"):
            admin.call("keys.settle", name="other-disk", statement="gone")
        with pytest.raises(Refusal, match="statement"):
            admin.call("keys.settle", by="officer1", name="other-disk", statement=" ")
        with pytest.raises(Refusal, match="found none"):
            admin.call("keys.settle", by="officer1", name="nowhere", statement="gone")
        words = "Disk NR-4711 shredded in my presence"
        admin.call("keys.settle", by="officer1", name="other-disk", statement=words)
        with pytest.raises(Refusal, match="settled already"):
            admin.call("keys.settle", by="officer1", name="other-disk", statement="gone")
        (row,) = admin.call("keys.copies")
        assert (row["state"], row["settled_by"], row["statement"]) == ("settled", "officer1", words)
        assert admin.call("status")["copies_behind"] == []
        entries = admin.call("ledger.export", start=0, limit=1000)["entries"]
        kinds = [json.loads(entry)["kind"] for entry in entries]
        for kind in ("registered", "withdrawn", "settled"):
            assert kinds.count(f"keyring.place-{kind}") == 1
        assert not any("NR-4711" in entry or str(copies) in entry for entry in entries)


def test_a_place_that_comes_back_is_brought_up_to_date(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        in_step(admin)
    configure(folder)
    with CoreProcess(folder), courier(folder):
        admin.call("client.add", name="New Ltd", slug="new")
    configure(folder, copies)
    with CoreProcess(folder), courier(folder):
        in_step(admin)
        assert keyrings(copies) == stored(folder)


def test_a_copy_registered_under_another_address_leaves_the_old_one_to_be_settled(place):
    for name in ("one", "two"):
        (place / name).mkdir(mode=0o700)
    folder = installation(place, place / "one")
    admin = admin_of(folder)
    with CoreProcess(folder), courier(folder):
        in_step(admin)
    configure(folder, place / "two")
    with CoreProcess(folder), courier(folder):
        expected = {str(place / "one"): "withdrawn", str(place / "two"): "in step"}
        until(
            lambda: {row["place"]: row["state"] for row in admin.call("keys.copies")} == expected,
            30,
        )
        assert keyrings(place / "two") == stored(folder)


# ── a courier that dies ──────────────────────────────────────────────────────────────────────────

_DYING = """
import os, signal, sys
from pathlib import Path
from gateway.config import KeyringCopy
from gateway.courier.places.open import open_place
import msgspec
place = open_place(msgspec.json.decode(sys.argv[1], type=KeyringCopy), Path)
def pieces():
    yield b"n" * 300_000
    yield b"n" * 300_000
    os.kill(os.getpid(), signal.SIGKILL)
place.put("house.keyring", pieces())
"""


@pytest.mark.parametrize("kind", ["directory", "sftp"])
def test_a_courier_killed_amid_a_delivery_leaves_the_old_file_whole(place, request, kind):
    folder = place / "there"
    folder.mkdir()
    section = {"name": "x", "directory": str(folder)}
    if kind == "sftp":
        server = request.getfixturevalue("sshd")
        section = {
            "name": "x", "sftp": server.address(folder), "host_key": server.host_key,
            "key": str(server.key),
        }  # fmt: skip
    (folder / "house.keyring").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", _DYING, json.dumps(section)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "house.keyring").read_bytes() == b"old"
    (leftover,) = set(listing(folder)) - {"house.keyring"}
    assert leftover.startswith(".house.keyring.")
    # The next delivery takes the leftover with it.
    alive = _DYING.replace("os.kill(os.getpid(), signal.SIGKILL)", "")
    subprocess.run([sys.executable, "-c", alive, json.dumps(section)], check=True)
    assert listing(folder) == ["house.keyring"]
    assert (folder / "house.keyring").stat().st_size == 600_000


def test_a_courier_killed_again_and_again_ends_with_every_copy_in_step(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    admin = admin_of(folder)
    with CoreProcess(folder):
        for number in range(4):
            carrier = courier(folder)
            for client in range(3):
                admin.call("client.add", name="New Ltd", slug=f"new-{number}-{client}")
            carrier.process.kill()
            carrier.process.wait()
            whole = set(stored(folder).values())
            assert set(keyrings(copies).values()) <= whole  # each is a whole file, if one is there
        with courier(folder):
            in_step(admin)
        assert keyrings(copies) == stored(folder)
        assert {path.name for path in copies.iterdir()} == {*keyrings(copies), MARKER}
