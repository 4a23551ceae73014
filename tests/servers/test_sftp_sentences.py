"""What people are told over SFTP: every refusal is a sentence in the status message, for every role and verb."""

from __future__ import annotations

import contextlib
import json
import os
import struct

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.doors.sftp import protocol as p
from gateway.wire.channel import Channel
from gateway.wire.messages import Claim, Classification, Scan, Verdict
from tests.support.sftp import Gateway
from tests.support.sftp_raw import RawSftp, Reply, raw_sftp
from vault.certificate.receipt import verify_receipt
from vault.crypto import sshsig

USERS = ("acme", "accountant", "officer1", "auditor", "archivist", "admin")
CLASS = "/clients/acme/2025/invoice"
CLASSES = {"a.xml": "invoice", "slip.pdf": "payroll", "note.txt": "demonstration-note"}


@pytest.fixture(scope="module")
def gateway(template):
    with Gateway(template) as running:
        for name in ("archivist", "admin"):
            key = Ed25519PrivateKey.generate()
            running.key(name).touch(0o600)
            running.key(name).write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            )
            running.admin.call("account.add", name=name, role=name, keys=[sshsig.public_line(key)])
        running.admin.call("account.grant", name="archivist", client="acme")
        with session(running, "acme") as acme:
            for name in CLASSES:
                assert acme.put(f"/inbox/{name}", name.encode()).code == p.OK
            acme.ask(p.MKDIR, "/inbox/folder", 0)
            for _ in CLASSES:
                file_one(running)
            acme.put("/inbox/folder/d.xml", b"d")
            acme.put("/inbox/c.xml", b"c")  # goes on waiting to be judged
        (batch,) = running.admin.call("disposal.propose")
        running.batch = batch["id"]
        for officer in ("officer1", "officer2"):
            running.admin.approve(batch["id"], officer)
        running.admin.call("disposal.execute", by="officer3", id=batch["id"])
        yield running


def file_one(gateway):
    """Deliver a verdict on the next document as an inspector would: the class that `CLASSES` says."""
    channel = Channel.connect(gateway.folder / "run" / "inspect.sock", timeout=60)
    try:
        work, descriptors = channel.call(Claim())
        os.close(descriptors[0])
        document = gateway.admin.call("document.show", document=work.document_id)
        channel.call(
            Verdict(
                work.document_id, document["size"], bytes.fromhex(document["sha256"]),
                scans=[Scan("yara", "clean")],
                classification=Classification(CLASSES[document["name"]], 0.95, "2025-03-01"),
            )
        )  # fmt: skip
    finally:
        channel.close()


@contextlib.contextmanager
def session(gateway, user):
    key = paramiko.Ed25519Key.from_private_key_file(str(gateway.key(user)))
    with raw_sftp(gateway.port, user, key) as raw:
        yield raw


@pytest.fixture(scope="module")
def sessions(gateway):
    """A session of each role that has one."""
    with contextlib.ExitStack() as stack:
        yield {
            user: stack.enter_context(session(gateway, user)) for user in USERS if user != "admin"
        }


SIZE_ZERO = struct.pack(">IQ", p.ATTR_SIZE, 0)
VERBS = {
    "read": lambda raw, path: raw.open(path),
    "create": lambda raw, path: raw.create(path),
    "append": lambda raw, path: raw.open(path, p.FLAG_WRITE | p.FLAG_APPEND),
    "exclusive": lambda raw, path: raw.open(path, p.FLAG_WRITE | p.FLAG_CREATE | p.FLAG_EXCLUSIVE),
    "both ways": lambda raw, path: raw.open(path, p.FLAG_READ | p.FLAG_WRITE),
    "list": lambda raw, path: raw.ask(p.OPENDIR, path),
    "stat": lambda raw, path: raw.ask(p.STAT, path),
    "lstat": lambda raw, path: raw.ask(p.LSTAT, path),
    "truncate": lambda raw, path: raw.ask(p.SETSTAT, path, SIZE_ZERO),
    "remove": lambda raw, path: raw.ask(p.REMOVE, path),
    "rmdir": lambda raw, path: raw.ask(p.RMDIR, path),
    "mkdir": lambda raw, path: raw.ask(p.MKDIR, path, 0),
    "rename": lambda raw, path: raw.ask(p.RENAME, path, f"{path}.exe"),
    "posix-rename": lambda raw, path: raw.ask(
        p.EXTENDED, "posix-rename@openssh.com", path, f"{path}.exe"
    ),
    "rename away": lambda raw, path: raw.ask(p.RENAME, path, "/elsewhere"),
    "symlink": lambda raw, path: raw.ask(p.SYMLINK, path, "/x"),
    "readlink": lambda raw, path: raw.ask(p.READLINK, path),
}
# Verbs that look and change nothing; whether they work depends on what is there.
LOOKS = {"read", "list", "stat", "lstat"}

# (role, path): what is a folder (F), a file (f), nothing (-), or a file whose bytes are not given (x)
PLACES = {
    "acme": {
        "/": "F", "/inbox": "F", "/receipts": "F", "/inbox/folder": "F", "/inbox/a.xml": "x",
        "/inbox/c.xml": "x", "/receipts/20261122-none.txt": "-", "/inbox/nothing/below": "-",
        "/clients/acme": "-", "/inbox/a.xml/below": "-",
    },
    "accountant": {
        "/": "F", "/clients": "F", "/review": "F", "/clients/acme": "F", "/clients/acme/2025": "F",
        CLASS: "F", f"{CLASS}/a.xml": "f", f"{CLASS}/none.xml": "-", "/clients/other": "-",
        "/review/acme": "F", "/clients/acme/2025/payroll/slip.pdf": "x", "/inbox": "-", "/x/y": "-",
    },
    "archivist": {
        "/": "F", CLASS: "F", f"{CLASS}/a.xml": "f", "/clients/acme/2025/payroll/slip.pdf": "x",
    },
    "officer1": {
        "/": "F", "/disposal": "F", "/disposal/{batch}": "F", "/disposal/{batch}/register.json": "f",
        "/disposal/{batch}/register.csv": "f", "/disposal/{batch}/certificate.json": "f",
        "/disposal/{batch}/certificate.pdf": "f", "/disposal/none": "-", "/clients/acme": "-",
        "/ledger/checkpoint": "-",
    },
    "auditor": {
        "/": "F", "/ledger": "F", "/certificates": "F", "/ledger/checkpoint": "f",
        "/ledger/ledger.vkeys": "f", "/ledger/entries-000000000000.jsonl": "f", "/ledger/none": "-",
        "/certificates/none.json": "-", "/clients/acme": "-", "/disposal": "-",
    },
}  # fmt: skip


def a_sentence(reply: Reply) -> bool:
    """Whether a refusal is one: words for a person, no code, no name of ours, an end."""
    text = reply.text
    return (
        len(text.split()) >= 3
        and text[0].isupper()
        and text.endswith(".")
        and not any(word in text for word in ("Error", "Refusal", "None", "Traceback", "expected "))
    )


@pytest.mark.parametrize("user", PLACES)
def test_every_refusal_is_a_sentence_and_nothing_is_changed_by_what_is_refused(
    gateway, sessions, user
):
    raw = sessions[user]
    before = gateway.admin.call("document.list")
    for template, kind in PLACES[user].items():
        path = template.format(batch=gateway.batch)
        for verb, act in VERBS.items():
            reply = act(raw, path)
            where = f"{user} {verb} {path}: {reply}"
            if reply.kind == p.HANDLE:
                raw.close(reply)
            works = (
                (verb in {"stat", "lstat"} and kind != "-")
                or (verb == "list" and kind == "F")
                or (verb == "read" and kind == "f")
            )
            client_writes = user == "acme" and verb in {
                "create",
                "append",
                "exclusive",
                "both ways",
            }
            if verb in LOOKS:
                assert (reply.kind != p.STATUS) == works, where
            elif not client_writes:
                assert reply.kind == p.STATUS, where
                assert reply.code not in {p.OK, p.EOF, p.BAD_MESSAGE}, where
            if reply.kind == p.STATUS:
                assert a_sentence(reply), where
            if kind == "-" and verb in LOOKS:
                assert reply.code == p.NO_SUCH_FILE, where
    after = gateway.admin.call("document.list")
    # (An empty file that a client makes is a document, and nothing refused.)
    kept, now = (
        {each["id"]: (each["name"], each["record_class"]) for each in listed if each["size"]}
        for listed in (before, after)
    )
    assert kept == now


@pytest.mark.parametrize(
    ("user", "verb", "path", "words"),
    [
        ("acme", "read", "/inbox/a.xml", "can't be read back; see /receipts"),
        ("acme", "remove", "/inbox/a.xml", "ask your accountant"),
        ("acme", "rmdir", "/inbox/a.xml", "ask your accountant"),
        ("acme", "rename", "/inbox/a.xml", "renamed to a program"),
        ("acme", "rename", "/inbox/folder", "keeps its name"),
        ("acme", "mkdir", "/inbox/a.xml", "There is a file of this name"),
        ("acme", "mkdir", "/inbox/folder", "There is a folder of this name"),
        ("acme", "mkdir", "/new", "below /inbox"),
        ("acme", "create", "/new.pdf", "below /inbox"),
        ("acme", "create", "/inbox/folder", "There is a folder of this name"),
        ("acme", "append", "/inbox/a.xml", "received whole"),
        ("acme", "exclusive", "/inbox/a.xml", "There is a file of this name"),
        ("acme", "truncate", "/inbox/a.xml", "can't be truncated"),
        ("acme", "both ways", "/receipts", "below /inbox"),
        ("acme", "read", "/inbox/folder", "This is a folder"),
        ("acme", "list", "/inbox/a.xml", "This is a file"),
        ("acme", "symlink", "/inbox/a.xml", "no links"),
        ("accountant", "remove", f"{CLASS}/a.xml", "approved disposal"),
        ("accountant", "mkdir", "/clients/acme/2025/mine", "fiscal years and record classes"),
        ("accountant", "read", CLASS, "This is a folder"),
        ("accountant", "create", f"{CLASS}/b.xml", "read-only"),
        ("accountant", "read", "/clients/acme/2025/payroll/slip.pdf", "an officer's approval"),
        ("accountant", "rename", f"{CLASS}/a.xml", "keeps the name it was sent under"),
        ("accountant", "rename away", f"{CLASS}/a.xml", "A file is moved from"),
        ("archivist", "rename", f"{CLASS}/a.xml", "An archivist reads"),
        ("officer1", "create", "/disposal/x", "read-only"),
        ("officer1", "remove", "/disposal/{batch}/register.json", "read-only"),
        ("auditor", "create", "/ledger/checkpoint", "read-only"),
        ("auditor", "remove", "/ledger/checkpoint", "read-only"),
        ("auditor", "read", "/ledger", "This is a folder"),
    ],
)  # fmt: skip
def test_the_sentence_says_why(gateway, sessions, user, verb, path, words):
    reply = VERBS[verb](sessions[user], path.format(batch=gateway.batch))
    assert words in reply.text


def test_an_admin_has_nothing_behind_this_door(gateway):
    with pytest.raises(paramiko.SSHException), session(gateway, "admin"):
        pass


def test_an_officer_finds_register_and_certificate_and_an_auditor_the_history(gateway, sessions):
    officer, auditor = sessions["officer1"], sessions["auditor"]
    assert sorted(officer.names(f"/disposal/{gateway.batch}")) == [
        "certificate.json", "certificate.pdf", "register.csv", "register.json",
    ]  # fmt: skip
    register = json.loads(content(officer, f"/disposal/{gateway.batch}/register.json"))
    table = content(officer, f"/disposal/{gateway.batch}/register.csv").decode("utf-8-sig")
    titles, row = table.splitlines()
    assert titles.split(",")[:2] == ["document_id", "record_class"]
    assert row.split(",")[:2] == [register[0]["document_id"], "demonstration-note"]
    assert set(auditor.names("/")) == {"ledger", "certificates"}
    (certificate,) = [name for name in auditor.names("/certificates") if name.endswith(".json")]
    same = content(officer, f"/disposal/{gateway.batch}/certificate.json")
    assert content(auditor, f"/certificates/{certificate}") == same
    entries = content(auditor, "/ledger/entries-000000000000.jsonl")
    assert b"slip.pdf" not in entries


def content(raw: RawSftp, path: str) -> bytes:
    opened = raw.open(path)
    data = b""
    while (
        reply := raw.ask(p.READ, raw.handle(opened), struct.pack(">QI", len(data), p.MAX_READ))
    ).kind == p.DATA:
        data += p.Reader(reply.body).string()
    raw.close(opened)
    return data


def test_the_same_bytes_are_said_in_the_answer_to_close_and_to_a_rename(gateway, sessions):
    acme = sessions["acme"]
    assert acme.put("/inbox/new.pdf", b"seen once").text == ""
    again = acme.put("/inbox/again.pdf", b"seen once")
    assert again.code == p.OK
    assert "The same bytes came before" in again.text
    assert "temporary name" in acme.put("/inbox/third.pdf.part", b"seen once").text
    renamed = acme.ask(p.RENAME, "/inbox/third.pdf.part", "/inbox/third.pdf")
    assert renamed.code == p.OK
    assert "The same bytes came before" in renamed.text


def test_a_quota_is_told_at_open_and_at_the_byte_that_passes_it_and_by_df(gateway, sessions):
    acme = sessions["acme"]
    used = gateway.admin.call("client.show", slug="acme")["used_bytes"]
    gateway.admin.call("client.change", slug="acme", quota_bytes=used + 40_000)
    try:
        assert acme.statvfs("/inbox")["blocks"] == (used + 40_000) // 4096
        assert acme.statvfs("/inbox")["bavail"] == 40_000 // 4096
        told = acme.create("/inbox/big.pdf", size=40_001)
        assert told.code == p.FAILURE
        assert str(used + 40_000) in told.text
        assert a_sentence(told)
        opened = acme.create("/inbox/big.pdf", size=40_000)
        assert acme.write(opened, 0, b"x" * 30_000).code == p.OK
        late = acme.write(opened, 30_000, b"x" * 10_001)
        assert late.code == p.FAILURE
        assert "which leaves 40000" in late.text
        assert acme.close(opened).text == late.text
        assert "big.pdf" not in acme.names("/inbox")
        assert acme.put("/inbox/fits.pdf", b"x" * 40_000).code == p.OK
        assert acme.create("/inbox/none.pdf").code == p.FAILURE
    finally:
        gateway.admin.call("client.change", slug="acme", quota_bytes="default")


def test_receipts_lie_there_in_both_forms_and_verify(gateway, sessions):
    acme = sessions["acme"]
    vkeys = gateway.admin.call("certificate.keys")["vkeys"]
    names = acme.names("/receipts")
    assert len(names) == 2 * len({name.partition(".")[0] for name in names})
    for name in names:
        assert verify_receipt(content(acme, f"/receipts/{name}"), vkeys)["client"] == "acme"


def test_an_approval_opens_the_door_and_a_revocation_ends_the_session(gateway):
    path = "/clients/acme/2025/payroll/slip.pdf"
    with session(gateway, "accountant") as accountant:
        told = accountant.open(path)
        assert told.code == p.PERMISSION_DENIED
        assert a_sentence(told)
        (request,) = [
            each for each in gateway.admin.call("access.list") if each["account"] == "accountant"
        ]
        assert request["id"] in told.text
        gateway.admin.call("access.approve", by="officer2", id=request["id"])
        assert content(accountant, path) == b"slip.pdf"
        gateway.admin.call("access.revoke", by="officer1", id=request["id"])
        with pytest.raises((EOFError, OSError)):
            accountant.open(path)
