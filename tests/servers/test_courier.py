"""The courier keeps registered keyring copies in step, and a certificate says so, or says that it has not."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway import setup
from tests.support.core_process import CoreProcess
from tests.support.wire import Admin, Door, inspect_one, until

NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"


@pytest.fixture
def place():
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def installation(place: Path, copies: Path) -> Path:
    folder = place / "i"
    setup.create(folder, datetime.now(UTC), demo=True)
    config = folder / "config.toml"
    config.write_text(
        config.read_text() + f'\n[[keyring.copies]]\nname = "other-disk"\ndirectory = "{copies}"\n'
    )
    return folder


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
        assert body["claim"]["level"] == "L0"
        assert [c["state"] for c in body["copies"]] == ["live"]
        (behind,) = admin.call("status")["copies_behind"]
        assert behind["target"] == "other-disk"
        assert behind["failure"]
        copies.mkdir(mode=0o700)
        until(lambda: not admin.call("status")["copies_behind"], 90)
        assert len(list(copies.iterdir())) == 2  # the client's and the house's


def test_what_the_courier_carries_is_sealed(place):
    copies = place / "copies"
    copies.mkdir(mode=0o700)
    folder = installation(place, copies)
    with CoreProcess(folder) as core, courier(folder):
        destroy_a_note(folder)
        core.stop()
    from vault.keyring import KeyringStore
    from vault.root import FileRootKey

    (copy,) = [path for path in copies.iterdir() if path.name != "house.keyring"]
    owner = copy.name.removesuffix(".keyring")
    keyring = KeyringStore(folder / "vault/keyrings", FileRootKey.load(folder / "root.key")).load(
        owner
    )
    held = copy.read_bytes()
    for secret in [group.key for group in keyring.groups.values()] + list(keyring.secrets.values()):
        assert secret not in held
