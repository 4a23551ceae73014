"""A root key on a PKCS#11 token: each epoch key has an object of its own there, which can be erased.

Promises: `wrap` makes a fresh AES-256 key inside the token, which never leaves it, and seals the
given key under it, in the token. `forget` destroys that object: what it has sealed opens nowhere any more,
with whatever copies of the sealed bytes, and with the token. What was not found was looked for in a
session that sees the root object; a token that does not answer is `TokenFailed`, never "gone".

Leaves out: copies of the token itself (a cluster of modules, a vendor's backup, the files of a
software token): an older copy has the erased objects, too. And how the token was set up.

Rules:
1. The root object wraps nothing. It is what makes a token's objects one root key: `id` is its CKA_ID in hex,
   and that id is in the label of every object made under it, so that two stores on one token never meet.
   It is private, so seeing it also proves that the session is logged in: rule 4 rests on that.
2. Objects are sensitive, not extractable, not copyable, not modifiable, and can encrypt and decrypt only.
   The token is asked whether it has kept to that; if not, nothing is wrapped.
3. `wrap` never destroys anything. A crash between it and the storing of what it returned leaves a stray
   object; the CKA_ID begins with the nonce of what it has wrapped, so `forget(…, but=wrapped)` tells it
   from the one that counts. An object encrypts one key, once.
4. One lock and one session per token and process: the binding initialises modules for one thread at a
   time, and closing one session would log out every other. A session that broke is opened anew, before
   an operation, never in the middle of one.
5. The PIN comes from a file that nobody else can read. A PIN that the token refused is never offered
   again by this process: tokens lock themselves.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error
from pkcs11.mechanisms import GCMParams

from vault.crypto.wrapping import KEY, NONCE, TAG, associated_data, split_wrapped, wrapped_form
from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    RootKeyRefused,
    StoreExists,
    TokenFailed,
)
from vault.keys.pkcs11_address import Address, parse, read_pin

_ID: Final = 8
"""Bytes of the root object's CKA_ID: 16 hex digits, as every root key's id."""

_KEPT: Final[dict[Attribute, bool]] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
}
_REPORTED: Final[dict[Attribute, bool]] = {
    **_KEPT,
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
"""What the token itself has to say about an object: these can't be set, only found."""

_TEMPLATE: Final[dict[Attribute, bool]] = {
    **_KEPT,
    Attribute.COPYABLE: False,
    Attribute.ENCRYPT: True,
    Attribute.DECRYPT: True,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.DERIVE: False,
}


class TokenRootKey:
    """A root key whose wrapping keys are objects of a token. Calls may come from any thread."""

    def __init__(self, connection: _Connection, address: Address, root_id: str) -> None:
        """`load` and `create` make it."""
        self._connection = connection
        self._address = address
        self._id = root_id

    @property
    def id(self) -> str:
        """16 hex digits: the CKA_ID of the root object."""
        return self._id

    def wrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """The 32-byte key `data` wrapped (61 bytes) under a new object; see `RootKey`.

        Raises:
            TokenFailed: the token does not answer.
            RootKeyRefused: the token makes objects that could leave it.
        """
        if len(data) != KEY:
            raise RuntimeError(f"symmetric key: expected {KEY} bytes, found {len(data)}")
        label, tail = self._names(purpose, subject)
        nonce = secrets.token_bytes(NONCE)
        with self._session() as session:
            key = session.generate_key(
                KeyType.AES, 256, label=label, id=nonce + tail, store=True, template=_TEMPLATE
            )
            try:
                _check_kept(key, self._address)
                bound = GCMParams(nonce, self._bound(purpose, subject), TAG * 8)
                sealed = key.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=bound)
                opened = key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=bound)
                if opened != data or len(sealed) != KEY + TAG:
                    raise TokenFailed(f"{self._address}: expected a key back, found other bytes")
            except BaseException:
                with contextlib.suppress(PKCS11Error):
                    key.destroy()
                raise
        return wrapped_form(nonce, bytes(sealed))

    def unwrap(self, data: bytes, *, purpose: str, subject: str) -> bytes:
        """What `wrap` wrapped with the same arguments.

        Raises:
            IntegrityError: it was changed, or is bound to something else.
            KeyUnavailable: it was forgotten.
            TokenFailed: the token does not answer.
        """
        nonce, sealed = split_wrapped(data, purpose)
        with self._session() as session:
            found = self._find(session, purpose, subject)
            key = found.get(nonce)
            if key is None:
                if found:
                    raise _tag_does_not_fit(purpose)
                raise KeyUnavailable(
                    f"wrapped key ({purpose}): expected its key on the token, found that it is not"
                    " there any more"
                )
            bound = GCMParams(nonce, self._bound(purpose, subject), TAG * 8)
            try:
                opened = key.decrypt(sealed, mechanism=Mechanism.AES_GCM, mechanism_param=bound)
            except PKCS11Error as error:
                # Modules name a false tag differently, some by their word for any failure. If the key
                # still works, it is the wrapped bytes that are wrong; if not, this raises, too.
                probe = GCMParams(secrets.token_bytes(NONCE), b"probe", TAG * 8)
                key.encrypt(bytes(KEY), mechanism=Mechanism.AES_GCM, mechanism_param=probe)
                raise _tag_does_not_fit(purpose) from error
        return bytes(opened)

    def forget(self, *, purpose: str, subject: str, but: bytes | None = None) -> None:
        """Destroy the objects of `subject`, and see that they are gone; see `RootKey`.

        Raises:
            TokenFailed: it may be that some are left.
        """
        kept = None if but is None else split_wrapped(but, purpose)[0]
        with self._session() as session:
            for nonce, key in self._find(session, purpose, subject).items():
                if nonce != kept:
                    key.destroy()
            left = set(self._find(session, purpose, subject)) - {kept}
        if left:
            raise TokenFailed(
                f"{self._address}: expected {len(left)} objects destroyed, found them there"
            )

    def subjects(self, purpose: str, below: str = "") -> frozenset[str] | None:
        """The subjects that have an object on the token (raises TokenFailed); see `RootKey`."""
        prefix = self._names(purpose, "")[0]
        template: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.SECRET_KEY}
        if below:
            template[Attribute.LABEL] = prefix + below
        found = set()
        with self._session() as session:
            for key in list(session.get_objects(template)):
                label = str(key[Attribute.LABEL])
                tail = _tail(key)
                if label.startswith(prefix) and tail is not None:
                    found.add(label.removeprefix(prefix) + tail)
        return frozenset(found)

    def destroy(self) -> None:
        """Destroy the root object and all under it, of a failed installation (raises TokenFailed)."""
        start = _label(self._id)
        with self._session() as session:
            for key in list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})):
                if str(key[Attribute.LABEL]).startswith(start):
                    key.destroy()
            _root_object(session, self._address).destroy()

    def _session(self) -> contextlib.AbstractContextManager[Any]:
        return self._connection.session(self._address, self._id)

    def _names(self, purpose: str, subject: str) -> tuple[str, bytes]:
        """Label and end of the CKA_ID: all of one owner's epochs share the label."""
        head, slash, tail = subject.rpartition("/")
        if not slash:
            head, tail = tail, ""
        return f"{_label(self._id)}{purpose} {head}", (slash + tail).encode()

    def _bound(self, purpose: str, subject: str) -> bytes:
        return associated_data(purpose=purpose, subject=subject, group=self._id)

    def _find(self, session: Any, purpose: str, subject: str) -> dict[bytes, Any]:
        """The objects of a subject by the nonce of what they have wrapped."""
        label, tail = self._names(purpose, subject)
        template = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label}
        found = {}
        for key in list(session.get_objects(template)):
            name = bytes(key[Attribute.ID])
            if name[NONCE:] == tail and len(name) >= NONCE:
                found[name[:NONCE]] = key
        return found


def load(address: str) -> TokenRootKey:
    """The root key at a `pkcs11:` address (`vault.keys.pkcs11_address`).

    Raises:
        RootKeyRefused: the address, the file of the PIN, the PIN or the root object is not acceptable.
        KeyUnavailable: module, PIN file or root object is not there.
        TokenFailed: the token is not there, or answered with another error.
        StorageFailed: the PIN can't be read.
    """
    where = parse(address)
    connection = _connection(where)
    with connection.session(where, None) as session:
        root = _root_object(session, where)
        _check_kept(root, where)
        root_id = bytes(root[Attribute.ID])
        if len(root_id) != _ID:
            raise RootKeyRefused(
                f"{where}: expected a root object made here, found one with another id"
            )
    return TokenRootKey(connection, where, root_id.hex())


def exists(address: str) -> bool:
    """Whether the token has the root object (raises as `load`, where it can't be asked)."""
    where = parse(address)
    with _connection(where).session(where, None) as session:
        return bool(_named(session, where))


def create(address: str) -> TokenRootKey:
    """Make the root object on the token and return it.

    Raises:
        StoreExists: the token has an object of that name.
        RootKeyRefused, KeyUnavailable, TokenFailed, StorageFailed: as `load`.
    """
    where = parse(address)
    connection = _connection(where)
    with connection.session(where, None) as session:
        if _named(session, where):
            raise StoreExists(f"{where}: expected no object of that name, found one")
        session.generate_key(
            KeyType.AES,
            256,
            label=where.object,
            id=secrets.token_bytes(_ID),
            store=True,
            template=_TEMPLATE,
        )
    return load(address)


# ── the token ────────────────────────────────────────────────────────────────────────────────────


class _Connection:
    """The one session this process has with a token."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._session: Any = None
        self._pin = ""  # what the session is logged in with
        self._refused: set[str] = set()

    @contextlib.contextmanager
    def session(self, address: Address, root_id: str | None) -> Iterator[Any]:
        """The session, alone in it; with `root_id`, one that sees that root object.

        Raises:
            KeyUnavailable, RootKeyRefused: as `load`; for an open root key (`root_id`) TokenFailed.
            TokenFailed: what else the token says inside the block.
        """
        with self._lock:
            try:
                if root_id is None:
                    self._open(address, read_pin(address))
                else:
                    self._reopen(address, root_id)
                yield self._session
            except PKCS11Error as error:
                # Whatever it was: the next one begins with a new session.
                self._close()
                raise TokenFailed(
                    f"{address}: expected the token to do it, found {type(error).__name__}"
                ) from error

    def _reopen(self, address: Address, root_id: str) -> None:
        if self._sees(address, root_id):
            return
        self._close()
        try:
            self._open(address, read_pin(address))
        except (KeyUnavailable, RootKeyRefused) as error:
            # It was there when the core began: that is an outage, and no answer about any key.
            raise TokenFailed(str(error)) from error
        if not self._sees(address, root_id):
            raise TokenFailed(f"{address}: expected root object {root_id}, found that it is gone")

    def _sees(self, address: Address, root_id: str) -> bool:
        if not self._alive():
            return False
        return any(
            bytes(key[Attribute.ID]).hex() == root_id for key in _named(self._session, address)
        )

    def _alive(self) -> bool:
        """Whether the session still stands: asked by the one call that needs no operation's state."""
        if self._session is None:
            return False
        try:
            self._session.generate_random(64)
        except (pkcs11.RandomNoRNG, pkcs11.FunctionNotSupported):
            return True
        except PKCS11Error:
            return False
        return True

    def _open(self, address: Address, pin: str) -> None:
        if self._alive():
            if pin != self._pin:
                raise RootKeyRefused(
                    f"{address}: expected the PIN this process is logged in with, found another"
                )
            return
        self._close()
        if pin in self._refused:
            raise RootKeyRefused(f"{address}: expected another PIN than the token has refused")
        token = _token(address)
        try:
            self._session = token.open(rw=True, user_pin=pin)
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
            self._refused.add(pin)
            raise RootKeyRefused(
                f"{address}: expected the token's PIN, found one that it refuses"
            ) from error
        except (pkcs11.PinLocked, pkcs11.PinExpired, pkcs11.UserPinNotInitialized) as error:
            raise RootKeyRefused(
                f"{address}: expected a usable PIN, found {type(error).__name__}"
            ) from error
        except pkcs11.UserAlreadyLoggedIn:
            # A session that broke left the login behind; sessions of one process share it.
            self._session = token.open(rw=True)
        self._pin = pin

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(PKCS11Error):
                session.close()


_registry: Final = threading.Lock()
_connections: Final[dict[tuple[str, str, str], _Connection]] = {}
_locks: Final[dict[str, threading.RLock]] = {}


def _connection(address: Address) -> _Connection:
    with _registry:
        lock = _locks.setdefault(address.module, threading.RLock())
        key = (address.module, address.token, address.serial)
        if key not in _connections:
            _connections[key] = _Connection(lock)
        return _connections[key]


def _token(address: Address) -> Any:
    try:
        library = pkcs11.lib(address.module)
    except PKCS11Error as error:
        raise KeyUnavailable(
            f"{address}: expected a PKCS#11 module at {address.module}, found none that loads"
        ) from error
    wanted: dict[str, Any] = {"token_label": address.token}
    if address.serial:
        wanted["token_serial"] = address.serial.encode()
    found = list(library.get_tokens(**wanted))
    if len(found) != 1:
        # It may be plugged in, or come up, later.
        raise TokenFailed(f"{address}: expected one such token, found {len(found)}")
    return found[0]


def _label(root_id: str) -> str:
    return f"strongroom {root_id} "


def _named(session: Any, address: Address) -> list[Any]:
    template = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: address.object}
    return list(session.get_objects(template))


def _root_object(session: Any, address: Address) -> Any:
    found = _named(session, address)
    if len(found) > 1:
        raise RootKeyRefused(f"{address}: expected one object of that name, found {len(found)}")
    if not found:
        raise KeyUnavailable(f"{address}: expected the root object on the token, found none")
    return found[0]


def _check_kept(key: Any, address: Address) -> None:
    """Raise RootKeyRefused if the token says of an object that it may leave, or has been outside."""
    try:
        told = key.get_attributes(list(_REPORTED))
    except pkcs11.AttributeTypeInvalid:
        told = {}
    wrong = sorted(each.name for each, value in _REPORTED.items() if told.get(each) is not value)
    if wrong:
        raise RootKeyRefused(
            f"{address}: expected objects that can't leave the token, found {', '.join(wrong)} otherwise"
        )


def _tail(key: Any) -> str | None:
    """The end of a subject that an object's CKA_ID holds; None: it was not made here."""
    name = bytes(key[Attribute.ID])
    if len(name) < NONCE:
        return None
    try:
        return name[NONCE:].decode()
    except UnicodeDecodeError:
        return None


def _tag_does_not_fit(purpose: str) -> IntegrityError:
    return IntegrityError(
        f"sealed value ({purpose}): expected it to open with its key for this subject, found that its"
        " tag does not fit",
        kind="chunk",
    )
