"""A place in an S3 bucket, or in what speaks its protocol; obstore as a client.

Promises: the port of `vault.storage.places`. An object is replaced at once or not at all; above
`PART` bytes it goes in parts, which become an object only when all of them are there. Durability is the
service's: what it acknowledged it has stored. A versioned bucket keeps what was replaced: say so with
`keeps_days`.

The credentials come from a file with the keys `access_key_id` and `secret_access_key` (and `session_token`),
and from nowhere else: neither the environment nor a metadata service is asked. Nothing is sent in the clear
except to this machine (the configuration sees to it). The parts of an upload that a crash broke off
stay unseen in the bucket until its lifecycle rule for incomplete uploads removes them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import obstore
from obstore import exceptions
from obstore.store import S3Store

from gateway.config import S3Address
from gateway.process.secret import read_secret
from vault.errors import PlaceError, PlaceMissing
from vault.storage.places import PIECE, check_name, check_prefix, is_name

if TYPE_CHECKING:
    from obstore.store import S3Config  # a type only: the library has no such name at run time

PART: Final = 8 * 1024 * 1024
_PARTS_AT_ONCE: Final = 2
_RETRIES: Final = 2
_RETRY_SECONDS: Final = 30
_REGION: Final = "us-east-1"
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_LINE: Final = re.compile(r"\s*([a-z_]+)\s*=\s*\"?([^\"\s]+)\"?\s*")
_NEEDED: Final = frozenset({"access_key_id", "secret_access_key"})
_KNOWN: Final = _NEEDED | {"session_token"}


class S3Place:
    """A bucket, or what lies below a prefix of it."""

    def __init__(
        self, address: S3Address, credentials: Path, *, endpoint: str = "", region: str = ""
    ) -> None:
        """`endpoint`: the service's address, "" for AWS; `region`: "" for us-east-1."""
        self._address = address
        self._credentials = credentials
        self._endpoint = endpoint
        self._region = region or _REGION
        self._store: S3Store | None = None

    def put(self, name: str, pieces: Iterable[bytes]) -> None:
        """See `Place.put`; memory: a few times `PART`."""
        check_name(name)
        source = _Source(pieces)
        # 1. What fits into one part goes in one request.
        first: list[bytes] = []
        while source.taken <= PART and (piece := next(source, None)) is not None:
            first.append(piece)
        whole = source.taken <= PART
        try:
            with self._speaking("write", name) as store:
                if whole:
                    obstore.put(store, name, b"".join(first), use_multipart=False)
                else:
                    # 2. The rest in parts; completing them is the commit point.
                    obstore.put(
                        store,
                        name,
                        itertools.chain(first, source),
                        use_multipart=True,
                        chunk_size=PART,
                        max_concurrency=_PARTS_AT_ONCE,
                    )
        except BaseException as error:
            if source.failure is not None:
                raise source.failure from None
            if isinstance(error, PlaceMissing):
                raise PlaceError(str(error)) from error
            raise

    def get(self, name: str) -> Iterator[bytes]:
        """See `Place.get`."""
        check_name(name)
        with self._speaking("read", name) as store:
            stream = iter(obstore.get(store, name).stream(PIECE))
        while True:
            with self._speaking("read", name):
                piece = next(stream, None)
            if piece is None:
                return
            # The service cuts as it likes; the port promises an upper limit.
            data = bytes(piece)
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]

    def names(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """See `Place.names`; a page is held at a time."""
        below = check_prefix(prefix)
        with self._speaking("list", below or ".") as store:
            pages = iter(obstore.list(store, below or None))
        while True:
            with self._speaking("list", below or "."):
                page = next(pages, None)
            if page is None:
                return
            for item in page:
                if is_name(item["path"]):
                    yield item["path"], item["size"]

    def remove(self, name: str) -> bool:
        """See `Place.remove`: asked for before (was it there?) and after (is it gone?)."""
        check_name(name)
        if not self._there(name):
            return False
        with self._speaking("remove", name) as store:
            obstore.delete(store, name)
        if self._there(name):
            raise PlaceError(f"{self._where}: expected {name} to be gone, found it still there")
        return True

    def close(self) -> None:
        """See `Place.close`."""
        self._store = None

    def _there(self, name: str) -> bool:
        # A request for the object's head has no error text, so that a bucket that is not there would look
        # like a name that is not there. Reading nothing of it has.
        try:
            with self._speaking("look for", name) as store:
                obstore.get(store, name)
        except PlaceMissing:
            return False
        return True

    @property
    def _where(self) -> str:
        return f"s3://{self._address.bucket}"

    @contextmanager
    def _speaking(self, action: str, name: str) -> Iterator[S3Store]:
        """An open store; what goes wrong leaves as PlaceError or PlaceMissing."""
        if self._store is None:
            self._store = self._open()
        try:
            yield self._store
        except (exceptions.BaseError, OSError) as error:
            # The library's text holds addresses, requests and its own structures: only the code is kept.
            text = str(error)
            code = _CODE.search(text)
            if isinstance(error, FileNotFoundError) and (code is None or code[1] == "NoSuchKey"):
                raise PlaceMissing(f"{self._where}: expected {name}, found none") from error
            found = code[1] if code else type(error).__name__
            if "error sending request" in text:
                found = "no connection"
            raise PlaceError(
                f"{self._where}: expected to {action} {name}, found {found}"
            ) from error

    def _open(self) -> S3Store:
        secrets = _credentials(self._credentials)
        config: S3Config = {
            "region": self._region,
            "skip_signature": False,
            "disable_bulk_delete": True,
            "access_key_id": secrets["access_key_id"],
            "secret_access_key": secrets["secret_access_key"],
        }
        if "session_token" in secrets:
            config["session_token"] = secrets["session_token"]
        if self._endpoint:
            config["endpoint"] = self._endpoint
        try:
            return S3Store(
                self._address.bucket,
                prefix=self._address.prefix or None,
                config=config,
                client_options={
                    "allow_http": self._endpoint.startswith("http://"),
                    "connect_timeout": "15s",
                    "timeout": "300s",  # one part over a slow line
                },
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
                },
            )
        except (exceptions.BaseError, ValueError) as error:
            raise PlaceError(
                f"{self._where}: expected usable settings, found {type(error).__name__}"
            ) from error


class _Source:
    """Pieces on their way, counted; remembers what they raised, to tell it from the service's failures."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.taken = 0
        self.failure: BaseException | None = None

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        self.taken += len(piece)
        return piece


def _credentials(path: Path) -> dict[str, str]:
    """The keys of a credentials file: lines `key = value`, quoted or not; `#` begins a comment line."""
    found: dict[str, str] = {}
    text = read_secret(path)
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[1] not in _KNOWN or match[1] in found:
            raise PlaceError(
                f"{path}: expected lines access_key_id = … and secret_access_key = …,"
                " found another line"
            )
        found[match[1]] = match[2]
    if not found.keys() >= _NEEDED:
        raise PlaceError(
            f"{path}: expected access_key_id and secret_access_key, found one of them missing"
        )
    return found
