"""One mailbox: looked into again and again, each message handed in once, and marked after that.

Promises:
- A message is marked or moved only once the core has said that it is durable, or that it was before.
- Memory does not depend on a message's size: it comes in pieces of `PIECE` bytes.
- Whatever goes wrong, in the mailbox or with the core, is reported and tried again; nothing is removed. What
  is wrong with one message, or with the room of its client, keeps no other message waiting.

Leaves out: what a message is, and whether it is new: the core remembers that by the mailbox's own numbers.

Rules:
1. A message is read without being marked as seen (BODY.PEEK). What its reader does is his.
2. Where the server tells of new mail (IDLE, RFC 2177) it is waited for, and never for longer than
   `poll_seconds`: not every server keeps its word, and what nobody took may be wanted now.
3. NetEase's servers (163, 126) answer nobody who has not said what program he is (ID, RFC 2971).
4. Exchange says a size that is not the message's: it is read until a piece is short and no more of it comes.
   An answer without the text that was asked for is not an empty text: the message stays.
5. Where there is no MOVE (RFC 6851) a message is copied, then flagged deleted and expunged by its number
   (UIDPLUS, RFC 4315); without that, it stays where it is, marked as seen: an EXPUNGE would end others, too.
"""

from __future__ import annotations

import contextlib
import math
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import imapclient
import structlog
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from gateway.config.sections import MailboxSection
from gateway.doors.mailbox.envelope import addresses_of, sender_of
from gateway.doors.sealing import Sealing
from gateway.errors import Disconnected, GatewayError, Refusal, WireError
from gateway.wire.channel import Channel
from gateway.wire.messages import (
    Abandon,
    BeginFetched,
    MailboxReport,
    MailStored,
    NewMessages,
    WhichAreNew,
    Writable,
)
from gateway.wire.messages.mailbox import PAGE
from vault.errors import VaultError

PIECE: Final = 1024 * 1024
HEADER: Final = 256 * 1024  # bytes of a header that are looked at for its envelope
IDLE_SECONDS: Final = 540.0  # servers end what is silent for half an hour, some sooner
_ID: Final = {"name": "Strongroom", "vendor": "Strongroom"}
_FAULTS: Final = (IMAPClientError, OSError, ssl.SSLError, GatewayError, VaultError)
_LATER: Final = frozenset({"full", "busy", "failed"})
LEFT_SECONDS: Final = 600.0  # until what was left behind is tried again
TOO_LARGE: Final = "larger than smtp.max_message_size"
NO_ROOM: Final = "more than their clients have room for"
UNREAD: Final = "not given by the server"

log = structlog.get_logger("mailbox")


@dataclass
class Settings:
    """A mailbox with what was read for it before the sandbox: password and certificate authorities."""

    section: MailboxSection
    password: str
    context: ssl.SSLContext | None
    limit: int


class _LeftBehind(GatewayError):
    """A message can't be taken, and others can; `why` is one of the sentences above."""

    def __init__(self, why: str) -> None:
        super().__init__(f"message: expected one that can be taken, found it {why}")
        self.why = why


class Fetcher:
    """Looks into one mailbox; belongs to one thread."""

    def __init__(self, settings: Settings, core: Channel, stop: threading.Event) -> None:
        self._settings = settings
        self._section = settings.section
        self._core = core
        self._stop = stop
        # By UIDVALIDITY and UID: why, and until when.
        self._left: dict[tuple[int, int], tuple[str, float]] = {}
        self.looked = False  # it has worked once

    def watch(self) -> None:
        """Look until told to stop (raises what ends a connection: the caller connects anew)."""
        with self._connected() as client:
            while not self._stop.is_set():
                self._look(client)
                self.looked = True
                self._core.call(MailboxReport(self._section.name, self._left_behind()))
                self._wait(client)

    # ── the mailbox ──

    @contextlib.contextmanager
    def _connected(self) -> Any:
        section = self._section
        host, port = section.server
        client = imapclient.IMAPClient(
            host,
            port,
            ssl=section.tls == "implicit",
            ssl_context=self._settings.context if section.tls == "implicit" else None,
            timeout=section.timeout,
        )
        try:
            if section.tls == "starttls":
                client.starttls(self._settings.context)
            client.login(section.user, self._settings.password)
            if client.has_capability("ID"):  # rule 3
                with contextlib.suppress(IMAPClientError):
                    client.id_(_ID)
            yield client
        finally:
            with contextlib.suppress(Exception):
                client.logout()

    def _look(self, client: imapclient.IMAPClient) -> None:
        """Fetch all that is new."""
        selected = client.select_folder(self._section.folder)
        validity = int(selected[b"UIDVALIDITY"])
        uids = sorted(client.search(["NOT", "DELETED"]))
        there = {(validity, uid) for uid in uids}
        self._left = {key: left for key, left in self._left.items() if key in there}
        for start in range(0, len(uids), PAGE):
            page = uids[start : start + PAGE]
            found = self._ask(WhichAreNew(self._section.name, validity, page), NewMessages)
            # Stored, and not marked: it ended in between, or somebody took the mark away.
            self._mark(client, [uid for uid in found.stored if uid in page])
            for uid in found.new:
                if self._stop.is_set():
                    return
                if uid in page and self._fetch(client, validity, uid):
                    self._mark(client, [uid])

    def _wait(self, client: imapclient.IMAPClient) -> None:
        """Wait until there may be something new, or for `poll_seconds`."""
        if not (self._section.idle and client.has_capability("IDLE")):
            self._stop.wait(self._section.poll_seconds)
            return
        client.idle()
        until = time.monotonic() + min(self._section.poll_seconds, IDLE_SECONDS)
        told: list[Any] = []
        while not (told or self._stop.is_set()) and (left := until - time.monotonic()) > 0:
            found = client.idle_check(timeout=min(left, 1.0))
            told = [each for each in found if b"EXISTS" in each]
        client.idle_done()

    def _mark(self, client: imapclient.IMAPClient, uids: list[int]) -> None:
        """Do with stored messages what the configuration says."""
        section = self._section
        if not uids or section.done == "keep":
            return
        if section.done == "seen":
            if unseen := _unseen(client, uids):
                client.add_flags(unseen, [imapclient.SEEN])
            return
        if not client.folder_exists(section.done_folder):
            client.create_folder(section.done_folder)
        if client.has_capability("MOVE"):
            client.move(uids, section.done_folder)
            return
        # Rule 5. Copied and not yet marked when it ends in between: it is copied again, never lost.
        expunges = client.has_capability("UIDPLUS")
        left = uids if expunges else _unseen(client, uids)
        if not left:
            return
        client.copy(left, section.done_folder)
        if expunges:
            client.delete_messages(left)
            client.uid_expunge(left)
        else:
            client.add_flags(left, [imapclient.SEEN])

    def _left_behind(self) -> str:
        """What stays in the mailbox because nobody can take it; "" for nothing."""
        reasons = [why for why, _until in self._left.values()]
        return "; ".join(
            f"{reasons.count(why)} messages stay there: {why}" for why in sorted(set(reasons))
        )

    # ── one message ──

    def _fetch(self, client: imapclient.IMAPClient, validity: int, uid: int) -> bool:
        """Hand one message in; whether it is stored (raises what ends a connection)."""
        key = validity, uid
        if key in self._left and time.monotonic() < self._left[key][1]:
            return False
        try:
            stored = self._hand_in(client, validity, uid)
        except _LeftBehind as error:
            forever = error.why == TOO_LARGE  # as long as the connection lasts
            self._left[key] = error.why, time.monotonic() + (LEFT_SECONDS, math.inf)[forever]
            log.warning("message stays", mailbox=self._section.name, why=error.why)
            return False
        self._left.pop(key, None)
        return stored

    def _hand_in(self, client: imapclient.IMAPClient, validity: int, uid: int) -> bool:
        """Hand one message in; whether it is stored (raises _LeftBehind, and what ends a connection)."""
        header, said = _piece(client, uid, "HEADER", 0, HEADER, "RFC822.SIZE")
        if header is None:
            return False  # somebody removed it
        begin = BeginFetched(
            self._section.name, validity, uid, sender_of(header)[:512], addresses_of(header)
        )
        try:
            reply, descriptors = self._core.call(begin)
        except Refusal as refusal:
            if refusal.code in _LATER:
                raise
            if refusal.code == "quota":
                raise _LeftBehind(NO_ROOM) from refusal
            log.info("message not taken", mailbox=self._section.name, code=refusal.code)
            return False
        if not isinstance(reply, Writable) or len(descriptors) != 1:
            raise WireError(
                "BeginFetched: expected Writable with a descriptor, found another reply"
            )
        try:
            return self._take(_pieces(client, uid, said), reply, descriptors[0])
        except _LeftBehind:
            self._core.call(Abandon(reply.document_id))
            raise
        except Refusal as refusal:
            if refusal.code == "quota":
                raise _LeftBehind(NO_ROOM) from refusal
            raise
        except Exception:
            with contextlib.suppress(Disconnected, WireError, Refusal):
                self._core.call(Abandon(reply.document_id))
            raise
        finally:
            os.close(descriptors[0])

    def _take(self, pieces: Iterator[bytes], begun: Writable, descriptor: int) -> bool:
        sealing, size = Sealing(begun, descriptor), 0
        for piece in pieces:
            size += len(piece)
            if size > self._settings.limit:
                raise _LeftBehind(TOO_LARGE)
            if begun.room is not None and size > begun.room:
                raise _LeftBehind(NO_ROOM)
            sealing.write(piece)
        if not size:
            raise _LeftBehind(UNREAD)
        # COMMIT POINT: on return the message is durable, and only then it is marked.
        stored = self._ask(sealing.finish(), MailStored)
        log.info(
            "message stored",
            mailbox=self._section.name,
            document=stored.document_id,
            again=stored.again,
        )
        return True

    def _ask(self, request: Any, expected: type[Any]) -> Any:
        reply, _ = self._core.call(request)
        if not isinstance(reply, expected):
            raise WireError(f"core: expected {expected.__name__}, found another reply")
        return reply


def _unseen(client: imapclient.IMAPClient, uids: list[int]) -> list[int]:
    flags = client.get_flags(uids)
    return [uid for uid in uids if imapclient.SEEN not in flags.get(uid, (imapclient.SEEN,))]


def _piece(
    client: imapclient.IMAPClient, uid: int, section: str, offset: int, length: int, *more: str
) -> tuple[bytes | None, int]:
    """A part of a message, as much as there is of it; None: the message is not there (raises _LeftBehind).

    With it the message's size, if `more` asks for it, as the server says it.
    """
    found = client.fetch([uid], [f"BODY.PEEK[{section}]<{offset}.{length}>", *more])
    parts = found.get(uid)
    if not parts:
        return None, 0
    said = parts.get(b"RFC822.SIZE")
    wanted = f"BODY[{section}]<{offset}>".encode()
    for name, value in parts.items():
        if isinstance(name, bytes) and name.upper() == wanted:
            text = value if isinstance(value, bytes) else b""
            if len(text) > length:
                break  # what it is a piece of can't be known
            return text, said if isinstance(said, int) else 0
    raise _LeftBehind(UNREAD)


def _pieces(client: imapclient.IMAPClient, uid: int, said: int) -> Iterator[bytes]:
    """A whole message, of which the server says a size (raises _LeftBehind, OSError)."""
    offset, short = 0, False
    while True:
        try:
            piece, _ = _piece(client, uid, "", offset, PIECE)
        except IMAPClientAbortError:
            raise
        except (IMAPClientError, _LeftBehind):
            if not short:
                raise
            return  # rule 4: it had ended, and not every server answers a question beyond the end
        if piece is None:
            raise OSError("message: expected the rest of it, found it removed")
        if not piece:
            return
        yield piece
        offset += len(piece)
        short = len(piece) < PIECE
        if short and offset >= said:
            return


def fault_of(error: BaseException, password: str) -> str:
    """Why a mailbox could not be looked into, in a line that holds no secret.

    Some servers say back what they could not read, a login with its password included.
    """
    if isinstance(error, GatewayError | VaultError):
        what = "its mail can't be taken"
    elif isinstance(error, LoginError):
        what = "it refuses the login"
    elif isinstance(error, ssl.SSLError):
        what = "its certificate or its TLS is not right"
    elif isinstance(error, OSError):
        what = "it can't be reached"
    else:
        what = "it does not answer as a mailbox does"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if password:
        text = text.replace(password, "…")
    return f"{what}: {' '.join(text.split())}"[:300]


RETRIED: Final = _FAULTS
"""What a mailbox or the core can end with, and what is tried again."""
