"""Backups by the real processes: core and courier, the command line, a folder and an S3 service (moto)."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from gateway.install import create
from tests.support.core_process import CoreProcess
from tests.support.wire import Admin, Door, inspect_one

NOTE = b"Strongroom demonstration note\n\nDate: 2026-11-20\nThis note may be discarded.\n"
KEPT = NOTE.replace(b"demonstration note", b"demonstration statement")


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def s3(tmp_path):
    """The lines of the configuration for a bucket, and the options of a restore from it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(
        urllib.request.Request(f"{endpoint}/sealed-backups", method="PUT")
    ).close()
    secret = tmp_path / "credentials"
    secret.touch(mode=0o600)
    secret.write_text('access_key_id = "test"\nsecret_access_key = "test"\n')
    address = "s3://sealed-backups/strongroom"
    lines = f's3 = "{address}"\nendpoint = "{endpoint}"\ncredentials = "{secret}"\n'
    yield lines, ["--from", address, "--endpoint", endpoint, "--credentials", str(secret)]
    server.stop()


def command(*arguments: str, expect: int = 0) -> Any:
    """Run the program; its answer as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stderr + done.stdout
    return json.loads(done.stdout)


def installation(home: Path, target: str) -> Path:
    folder = home / "i"
    create.create(folder, datetime.now(UTC), demo=True)
    config = folder / "config.toml"
    config.write_text(
        config.read_text() + f'\n[[backup.targets]]\nname = "away"\nevery_hours = 0\n{target}'
    )
    return config


def courier(config: Path) -> CoreProcess:
    return CoreProcess(
        config.parent, [sys.executable, "-m", "gateway.cli", "courier", "-c", str(config)]
    )


def send(folder: Path, name: str, data: bytes) -> None:
    door = Door(folder / "run" / "sftp.sock", "acme", folder / "demo" / "acme")
    door.upload(f"/inbox/{name}", data)
    door.close()
    inspect_one(folder / "run" / "inspect.sock")


def destroy(admin: Admin) -> None:
    (batch,) = admin.call("disposal.propose")
    admin.approve(batch["id"], "officer1")
    admin.approve(batch["id"], "officer2")
    admin.call("disposal.execute", by="officer3", id=batch["id"])


def restore_and_check(home: Path, folder: Path, source: list[str]) -> None:
    """On another machine: root key and keyrings by hand, the rest from the backup."""
    keys = home / "keys"
    shutil.copytree(folder / "vault" / "keyrings", keys / "keyrings")
    shutil.copy(folder / "root.key", keys / "root.key")
    shutil.rmtree(folder)  # the machine is gone
    other = home / "o"
    options = [
        "--into", str(other), "--keyrings", str(keys / "keyrings"), "--root-key", str(keys / "root.key"),
    ]  # fmt: skip
    report = command("backup", "restore", *source, *options)
    assert report["findings"] == []
    assert report["documents"] == report["blobs"] == 1
    config = str(other / "config.toml")
    checked = command("check", "--read-data", "-c", config)
    assert (checked["findings"], checked["documents_read"]) == ([], 1)
    states = {document["state"] for document in command("document", "list", "-c", config)}
    assert states == {"FILED", "DESTROYED"}
    # A second restore into what is an installation now is refused.
    refused = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "backup", "restore", *source, *options],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "expected no installation" in refused.stderr


def test_a_bucket_brings_back_what_lives_and_not_what_was_destroyed_after_it(home, s3):
    lines, source = s3
    config = installation(home, lines)
    folder = config.parent
    with CoreProcess(folder), courier(config):
        admin = Admin(folder / "run" / "admin.sock", folder / "demo")
        send(folder, "note.txt", NOTE)
        send(folder, "kept.txt", KEPT)
        made = command("backup", "run", "-c", str(config))
        assert (made["target"], made["documents"], made["blobs"]) == ("away", 2, 2)
        proof = command("backup", "verify", "--sample", "100%", "-c", str(config))
        assert (proof["findings"], proof["sampled"], proof["opened"]) == ([], 2, 2)
        destroy(admin)
        again = command("backup", "run", "away", "-c", str(config))
        assert (again["documents"], again["blobs"]) == (1, 0)
        listed = command("backup", "list", "-c", str(config))
        assert [row["state"] for row in listed["backups"]] == ["done", "done"]
        assert listed["targets"][0]["amendments_behind"] == 0
        # The first backup, made before the destruction, is the one to restore.
        source += ["--backup", made["backup"]]
    restore_and_check(home, folder, source)


def test_without_a_running_core_the_command_line_carries_to_a_folder_itself(home):
    place = home / "place"
    place.mkdir(mode=0o700)
    config = installation(home, f'directory = "{place}"\n')
    folder = config.parent
    with CoreProcess(folder):
        admin = Admin(folder / "run" / "admin.sock", folder / "demo")
        send(folder, "note.txt", NOTE)
        send(folder, "kept.txt", KEPT)
        destroy(admin)
    made = command("backup", "run", "-c", str(config))
    assert (made["documents"], made["blobs"]) == (1, 1)
    proof = command("backup", "verify", "--sample", "100", "-c", str(config))
    assert (proof["findings"], proof["opened"]) == ([], 1)
    blob = next(path for path in (place / "blobs").rglob("*") if path.is_file())
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = command("backup", "verify", "--sample", "100", "-c", str(config), expect=1)
    assert [finding["subject"] for finding in found["findings"]] == [f"document {blob.name}"]
    blob.write_bytes(whole)
    restore_and_check(home, folder, ["--from", str(place)])


@pytest.mark.parametrize("serving", [True, False])
def test_a_damaged_document_comes_back_while_the_gateway_serves_and_while_none_runs(home, serving):
    place = home / "place"
    place.mkdir(mode=0o700)
    config = installation(home, f'directory = "{place}"\n')
    folder = config.parent
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(contextlib.ExitStack())
        running.enter_context(CoreProcess(folder))
        running.enter_context(courier(config))
        send(folder, "kept.txt", KEPT)
        command("backup", "run", "-c", str(config))
        if serving:
            inspectors = [sys.executable, "-m", "gateway.cli", "inspect", "-c", str(config)]
            running.enter_context(CoreProcess(folder, inspectors))
        else:
            running.close()
        (blob,) = (path for path in (folder / "vault/blobs/objects").rglob("*") if path.is_file())
        whole = blob.read_bytes()
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        checked = command("check", "--read-data", "-c", str(config), expect=1)
        (finding,) = checked["findings"]
        named = re.search(r"`strongroom (.+?)`", finding["action"])[1].split()
        assert named == ["document", "restore", blob.name, "--from", "away"]
        done = command(*named, "-c", str(config))
        assert [each["outcome"] for each in done["documents"]] == ["restored"]
        assert blob.read_bytes() == whole
        assert command("check", "--read-data", "-c", str(config))["findings"] == []
        again = command(*named, "-c", str(config), expect=1)
        assert "found it whole" in again["documents"][0]["detail"]
