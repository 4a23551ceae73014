"""One contract for every client: upload, download, listing, resume, rename, and what is shown of a refusal."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.support.sftp import Gateway
from tests.support.sftp_clients import CLIENTS
from tests.support.wire import until

SHELF = "/clients/acme/2025/invoice"
FILED = "发票 filed.bin"
SIZES = (0, 16_384, 2_000_001)
CUT = 5 * 16_384


@pytest.fixture(scope="module")
def gateway(shared_gateway):
    return shared_gateway


@pytest.fixture(scope="module")
def filed(gateway) -> bytes:
    """A document that accountants find on its shelf, and its client has a receipt for."""
    data = os.urandom(1_000_003)
    with gateway.paramiko() as client, client.open(f"/inbox/{FILED}", "wb") as remote:
        remote.set_pipelined(True)
        remote.write(data)
    gateway.file_received()
    return data


@pytest.fixture
def client(request, gateway, tmp_path):
    """The program under test; each has a home of its own."""
    return CLIENTS[request.param](gateway, tmp_path)


def with_client(*needed: str) -> pytest.MarkDecorator:
    """Parametrise with the programs that can do all of `needed`."""
    able = [name for name, kind in sorted(CLIENTS.items()) if set(needed) <= kind.can]
    return pytest.mark.parametrize("client", able, indirect=True, ids=able)


def made(path: Path, size: int) -> bytes:
    data = os.urandom(size)
    path.write_bytes(data)
    return data


def holds(gateway: Gateway, name: str, data: bytes) -> None:
    # sshfs closes a file after the program that wrote it went on; the others have closed it.
    until(lambda: name in gateway.documents())
    found = gateway.documents()[name]
    assert (found["size"], found["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


@with_client()
def test_what_is_uploaded_is_what_was_recorded(client, gateway, tmp_path):
    """Empty, exactly one chunk, several: size and digest are those on the client's disk."""
    for size in SIZES:
        name = f"{type(client).__name__}-{size}.bin"
        data = made(tmp_path / name, size)
        done = client.upload("acme", tmp_path / name, f"/inbox/{name}")
        assert done.done, done.text
        holds(gateway, name, data)


@with_client()
def test_an_accountant_downloads_the_bytes_that_were_sent(client, filed, tmp_path):
    done = client.download("accountant", f"{SHELF}/{FILED}", tmp_path / "back")
    assert done.done, done.text
    assert (tmp_path / "back").read_bytes() == filed


@with_client("list")
def test_a_client_finds_and_reads_its_receipts(client, gateway, filed, tmp_path):
    names = client.listing("acme", "/receipts")
    document_id = gateway.documents()[FILED]["id"]
    name = next(name for name in names if document_id in name)
    done = client.download("acme", f"/receipts/{name}", tmp_path / "receipt")
    assert done.done, done.text
    assert hashlib.sha256(filed).hexdigest() in (tmp_path / "receipt").read_text("utf-8")


@with_client("list")
def test_a_listing_shows_names_as_they_are(client, filed):
    """With a space and in Chinese; folders too."""
    assert FILED in client.listing("acme", "/inbox")
    assert sorted(client.listing("accountant", "/")) == ["clients", "review"]


@with_client("resume")
def test_an_interrupted_upload_is_continued(client, gateway, tmp_path):
    """The same document goes on: what was received before is not sent again."""
    name = f"cut-{type(client).__name__}.bin"
    data = made(tmp_path / name, 300_001)
    with gateway.paramiko() as before:
        remote = before.open(f"/inbox/{name}", "wb")
        remote.write(data[:CUT])
        before.get_channel().get_transport().close()
    until(lambda: [each for each in gateway.partials() if each["name"] == name])
    (partial,) = [each for each in gateway.partials() if each["name"] == name]
    assert partial["size"] == CUT
    done = client.resume("acme", tmp_path / name, f"/inbox/{name}")
    assert done.done, done.text
    holds(gateway, name, data)
    assert gateway.documents()[name]["id"] == partial["id"]


@with_client("rename")
def test_a_temporary_name_is_handed_in_when_it_is_renamed(client, gateway, tmp_path):
    name = f"named-{type(client).__name__}.bin"
    data = made(tmp_path / name, 100_000)
    sent = client.upload("acme", tmp_path / name, f"/inbox/{name}.part")
    assert sent.done, sent.text
    assert name not in gateway.documents()
    renamed = client.rename("acme", f"/inbox/{name}.part", f"/inbox/{name}")
    assert renamed.done, renamed.text
    holds(gateway, name, data)


@with_client()
def test_a_refusal_is_shown_and_fails(client, filed, tmp_path):
    """The sentence, where the program shows what a server says; else its own words for the code."""
    done = client.download("acme", f"/inbox/{FILED}", tmp_path / "back")
    assert not done.done
    assert re.search(client.refusal.format("can't be read back"), done.text), done.text
    assert not (tmp_path / "back").exists() or (tmp_path / "back").stat().st_size == 0


@with_client("rename")
def test_a_document_is_not_renamed_to_a_program_and_the_reason_is_shown(client, gateway, filed):
    done = client.rename("acme", f"/inbox/{FILED}", "/inbox/other.exe")
    assert not done.done
    assert re.search(client.refusal.format("renamed to a program"), done.text), done.text
    assert FILED in gateway.documents()
