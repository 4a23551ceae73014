"""A core in this process, on a store in a temporary folder, under a clock the test sets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fontTools import subset, ttLib

import gateway.core.disposal
import retention_rules
import vault.certificate
from gateway.config import Config, InspectSection, RetentionSection, StoreSection
from gateway.core.core import Core
from gateway.core.disposal import certificates
from gateway.core.inspection.claims import InspectionQueue
from gateway.core.intake import partial, receive
from gateway.core.login import accounts
from gateway.core.outbound import keyring_copies, outbox
from gateway.core.outbound.kinds import kinds
from gateway.core.sessions.admin import AdminSession
from gateway.core.sessions.base import Answer, Session
from gateway.core.views import view_for
from gateway.core.views.base import split
from gateway.core.wings import Wings
from gateway.errors import Refusal
from gateway.wire.messages import AdminCall, Challenge, Classification, Scan, Verdict
from gateway.wire.signed_act import NAMESPACE, act_statement
from retention_rules.parser import load_rulebook
from vault.catalogue import store as catalogue
from vault.certificate.model import Certificate, certificate_to_json
from vault.certificate.pdf.document import render_pdf
from vault.certificate.pdf.fonts import Fonts, find_fonts
from vault.certificate.pdf.render_process import Language
from vault.certificate.pdf.seal import Seal
from vault.certificate.signing import SigningIdentity
from vault.crypto import sshsig
from vault.crypto.sealed import SealedReader, SealedWriter, document_context
from vault.keys.root import create_root_key, load_root_key
from vault.keys.root_file import PKCS11
from vault.store import Store

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
ROLES = {
    "acme": ("client", "acme"),
    "other": ("client", "other"),
    "accountant": ("accountant", ""),
    "stranger": ("accountant", ""),
    "officer1": ("officer", ""),
    "officer2": ("officer", ""),
    "officer3": ("officer", ""),
    "auditor": ("auditor", ""),
    "admin": ("admin", ""),
}


class OneSigner(SigningIdentity):
    """A real signer, made once: two RSA keys for each house would take longer than most tests."""

    @classmethod
    def create(cls, origin: str, now: datetime) -> SigningIdentity:
        del origin, now
        return _signer()


@functools.cache
def _signer() -> SigningIdentity:
    return SigningIdentity.create("strongroom.invalid/tests", START)


@functools.cache
def _small_fonts() -> tuple[tempfile.TemporaryDirectory[str], Fonts, set[str]]:
    """The fonts of a print with the characters of its own words only: whole ones take half a second each time."""
    words = {chr(code) for code in (*range(0x20, 0x250), *range(0x2000, 0x2300))}
    for package in (gateway.core.disposal, vault.certificate, retention_rules):
        for path in Path(package.__path__[0]).rglob("*"):
            if path.suffix in {".py", ".toml"}:
                words.update(path.read_text("utf-8"))
    found = find_fonts()
    assert found is not None
    folder = tempfile.TemporaryDirectory(prefix="sr-fonts-")
    small = []
    for path in (found.serif, found.sans):
        font = ttLib.TTFont(path)
        chosen = subset.Subsetter()
        chosen.populate(text="".join(words))
        chosen.subset(font)
        small.append(Path(folder.name) / path.name)
        font.save(small[-1])
    return folder, Fonts(*small), words


def printed_here(certificate: Certificate, language: Language, identity: SigningIdentity) -> bytes:
    """The same print without a process for each, which would load its libraries for a second."""
    signers = (identity.certificate_der, identity.authority_der)
    seal = Seal(*map(x509.load_der_x509_certificate, signers), identity.sign)
    _, fonts, words = _small_fonts()
    known = words.issuperset(certificate_to_json(certificate).decode())
    return render_pdf(certificate, language, fonts=fonts if known else None, seal=seal)


# Where houses make theirs; signing and the printing process have tests of their own, with real ones.
certificates.SigningIdentity = OneSigner
certificates.print_certificate = printed_here


@functools.cache
def _schema() -> bytes:
    """An empty catalogue as the migrations make it; making it takes as long as the rest of a house."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.sqlite3"
        path.touch()
        catalogue.migrate(path, new=True)
        return path.read_bytes()


@contextlib.contextmanager
def schema_made_once() -> Iterator[None]:
    """Stores created in here begin with a copy of one empty catalogue."""
    migrate, schema = catalogue.migrate, _schema()

    def copy(path: Path, *, new: bool = False) -> None:
        if new:
            path.write_bytes(schema)
        else:
            migrate(path)

    catalogue.migrate = copy
    try:
        yield
    finally:
        catalogue.migrate = migrate


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


def _place(folder: Path, root_key: str) -> str:
    return root_key if root_key.startswith(PKCS11) else str(folder / root_key)


async def ask(session: Session, request: Any) -> Answer:
    """A session's answer, waited for where it is not at hand."""
    answering = session.handle(request)
    if isinstance(answering, Future):
        answering = asyncio.wrap_future(answering)
    return answering if isinstance(answering, tuple) else await answering


class House:
    """An open core with two clients and an account of each role. `accountant` sees acme only."""

    _wings: Wings | None = None

    def __init__(self, folder: Path, root_key: str = "root.key", **settings: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.keys: dict[str, Ed25519PrivateKey] = {}
        root = create_root_key(_place(folder, root_key))
        with schema_made_once():
            Store.create(folder / "vault", root, self.clock(), {}).close()
        self.config = Config(
            retention=RetentionSection(packs=["cn", "demo"]),
            inspect=InspectSection(clamd="off"),
            store=StoreSection(root_key=root_key),
            base=folder,
            source=folder / "config.toml",
        )
        for name, value in settings.items():
            self.config = replaced(self.config, name, value)
        self.open()

    def open(self, *, believed: bool = True) -> None:
        """(Re)open the store, as a restart does. The clock is confirmed where it moved, if it is believed."""
        root = load_root_key(self.config.root_key)
        rules = load_rulebook(self.config.retention.packs)
        self.core = Core(
            self.config,
            Store.open(
                self.folder / "vault", root, [copy.name for copy in self.config.keyring.copies]
            ),
            rules,
            self.clock,
        )
        if believed and self.core.clock.doubt is not None:
            now = self.clock()
            self.core.store.catalogue.write(lambda tx: self.core.clock.confirm(tx, now))
            self.core.clock.confirmed(now)
        keyring_copies.prepare(self.core)
        # Without chance the delays can be told.
        self.queue = InspectionQueue(self.wings.intake, chance=lambda: 0.0)

    @property
    def wings(self) -> Wings:
        """The wings of the core that is open; delays are whole, so that they can be told."""
        if self._wings is None or self._wings.core is not self.core:
            self._wings = Wings.around(self.core, chance=lambda: 0.0)
        return self._wings

    async def deliver(self) -> None:
        """Deliver what is due, as the job does, and wait until that was done or has failed."""
        for task in await outbox.due(self.wings.outbound, kinds(self.wings.outbound)):
            await task

    def restart(self) -> None:
        self.core.close()
        self.open()
        self.core.store.recover(self.clock())
        partial.sweep(self.core)

    def spooled(self) -> list[str]:
        """Ids of sealed files that are not settled, but for those that were made ahead of need."""
        spares = self.wings.intake.spares
        with spares._lock:
            made = {document_id for _, document_id, _ in spares._made}
            return sorted(set(self.core.store.blobs.spooled()) - made)

    async def settle(self) -> None:
        """Make the clients and accounts."""
        for slug in ("acme", "other"):
            await self.act(
                "client.add",
                slug=slug,
                name=f"{slug} Ltd",
                emails=[f"owner@{slug}.example"],
                language="en",  # a page of Chinese takes a second longer to set; its own tests do
            )
        for name, (role, client) in ROLES.items():
            self.keys[name] = Ed25519PrivateKey.generate()
            line = sshsig.public_line(self.keys[name])
            more = {"client": client} if client else {}
            await self.act("account.add", name=name, role=role, keys=[line], **more)
        await self.act("account.grant", name="accountant", client="acme")

    async def act(self, act_name: str, by: str = "", **arguments: Any) -> Any:
        """Perform an administrative act, signed by an account or from the console."""
        session = AdminSession(self.wings, None)
        session.attach((1, 1000, 1000))
        call = AdminCall(act_name, arguments)
        if by:
            challenge, _ = await session.handle(Challenge())
            statement = act_statement(act_name, arguments, by, challenge.nonce)
            signature = sshsig.sign(self.keys[by], statement, NAMESPACE)
            call = AdminCall(act_name, arguments, by, statement, signature)
        answer, descriptor = await session.handle(call)
        if descriptor is not None:
            os.close(descriptor)
            return answer
        return answer.data

    async def by_two(
        self, act_name: str, officers: tuple[str, str] = ("officer1", "officer2"), **arguments: Any
    ) -> Any:
        """Perform an act that takes two officers: both sign the same; the answer to the second."""
        first = await self.act(act_name, by=officers[0], **arguments)
        assert first["waiting"], first
        return await self.act(act_name, by=officers[1], **arguments)

    async def approve(self, batch: str, officer: str, decision: str = "approve") -> Any:
        """Sign a batch's statement and hand it in."""
        text = await self.act("disposal.statement", id=batch, account=officer, decision=decision)
        signature = sshsig.sign(self.keys[officer], text["statement"].encode(), text["namespace"])
        return await self.act(
            "disposal.decide", id=batch, account=officer, decision=decision, signature=signature
        )

    async def view(self, name: str):
        """The SFTP view of an account."""

        def look(connection):
            return accounts.describe(connection, accounts.load_account(connection, name))

        return view_for(self.wings.intake, await self.core.read(look))

    async def upload(self, path: str, data: bytes, by: str = "acme") -> str:
        """Send a document as a client; returns its id."""
        view = await self.view(by)
        upload, _ = await view.begin_upload(split(path), resume=False)
        return await self.finish(upload, data)

    async def begun(self, path: str, data: bytes, by: str = "acme"):
        """Begin a document as a client and write these bytes down; returns it and its writer."""
        upload, _ = await (await self.view(by)).begin_upload(split(path), resume=False)
        writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
        writer.write(data)
        writer.flush()
        return upload, writer

    async def finish(self, upload, data: bytes) -> str:
        writer = SealedWriter(upload.descriptor, upload.key, document_context(upload.document_id))
        writer.write(data)
        size = writer.finish()
        await asyncio.wrap_future(
            receive.commit(self.wings.intake, upload, size, hashlib.sha256(data).digest())
        )
        return upload.document_id

    async def judge(self, **more: Any) -> str:
        """Claim the next document and deliver a verdict: clean, and classified as `more` says."""
        found = await self.queue._next()
        assert found is not None, "nothing to inspect"
        work, descriptor = found.work, found.descriptor
        claimed, fixity = found.claimed, found.fixity
        with SealedReader(
            descriptor, work.key, document_context(work.document_id), close_fd=True
        ) as reader:
            data = reader.readall()
        verdict = {
            "document_id": work.document_id,
            "size": len(data),
            "sha256": hashlib.sha256(data).digest(),
            "scans": [Scan("yara", "clean")],
            **more,
        }
        await self.queue.verdict(claimed, Verdict(**verdict), fixity)
        return work.document_id

    async def filed(
        self, name: str, data: bytes = b"x", record_class: str = "invoice", day: str = "2025-03-01",
        by: str = "acme",
    ) -> str:  # fmt: skip
        """A document that arrived and was filed."""
        document_id = await self.upload(f"/inbox/{name}", data, by)
        await self.judge(classification=Classification(record_class, 0.95, day))
        return document_id

    async def read(self, path: str, by: str = "accountant") -> bytes:
        """Read a path as an account, through the sealed file."""
        opened = await (await self.view(by)).open_read(split(path))
        import os

        if opened.reply.key is None:
            try:
                return os.pread(opened.descriptor, opened.reply.size, 0)
            finally:
                os.close(opened.descriptor)
        context = document_context(opened.reply.document_id)
        with SealedReader(opened.descriptor, opened.reply.key, context, close_fd=True) as reader:
            return reader.readall()

    async def names(self, path: str, by: str) -> list[str]:
        """All names in a folder, page by page."""
        view = await self.view(by)
        names: list[str] = []
        cursor = ""
        while True:
            page = await view.entries(split(path), cursor)
            names.extend(entry.name for entry in page.entries)
            cursor = page.cursor
            if not cursor:
                return names

    async def document(self, document_id: str) -> dict[str, Any]:
        return await self.act("document.show", document=document_id)

    async def refused(self, awaitable) -> Refusal:
        """The refusal an act meets."""
        try:
            await awaitable
        except Refusal as refusal:
            return refusal
        raise AssertionError("expected a refusal, found none")

    def close(self) -> None:
        self.core.close()

    async def end(self) -> None:
        """Stop what a test left running, as the end of a process does, then close."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.close()


def replaced(config: Config, path: str, value: Any) -> Config:
    """A configuration with `section.key` changed."""
    import msgspec

    section, _, key = path.partition(".")
    changed = msgspec.structs.replace(getattr(config, section), **{key: value})
    return msgspec.structs.replace(config, **{section: changed})


__all__ = ["START", "Clock", "House"]
