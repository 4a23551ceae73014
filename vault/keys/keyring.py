"""Keyrings: the group keys and secrets of one client (or of the house), one sealed file each.

Promises: a keyring is replaced whole and durably; what was dropped from it is in no file
of this directory any more; a file that was changed, mixed up with another owner's, or cut does
not load.

Leaves out: the copies of keyring files elsewhere (backups, mirrors), and locking: one
process writes. **An old copy of a keyring file together with the root key still opens every group
it held.** No rewriting here can change that; whoever ends a group must also have every copy of the
file rewritten, and the epoch number tells a copy's age. FORMAT.md, section 6, says it at length.

Rules:
1. Every save is a new epoch: number + 1, a fresh epoch key, everything sealed anew. The epoch key
   is wrapped by the root key and bound to owner and number.
2. A save replaces exactly the epoch it was loaded from. Otherwise a stale copy in memory could
   bring a dropped group back, and that is RuntimeError; so is saving a keyring that was destroyed
   (KeyUnavailable), because the file would return.
3. Leftovers of crashed writes hold keys, too. Opening the store removes them all (a crash is
   always followed by an opening), and `destroy` looks once more.
4. Parsing is strict: exact magic, canonical header, sealed body, no unknown field, nothing behind.

One module, although it is long: keys in memory, their file and the store of the files change together.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault.crypto.wrapping import KEY, NONCE, TAG, WRAPPED_KEY, new_key
from vault.errors import IntegrityError, KeyUnavailable, StoreMissing, VaultError, WrongRootKey
from vault.keys.root import RootKey
from vault.storage.durable import (
    clear_leftovers,
    create_durably,
    remove_durably,
    storage_error,
    write_durably,
)

GroupKind: TypeAlias = Literal["intake", "cohort"]

_MAGIC: Final = b"strongroom-keyring-v1\n"
_SUFFIX: Final = ".keyring"
_OWNER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_PURPOSE: Final = "keyring-epoch"
_MAX_FILE: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A key that wraps the document keys of one group."""

    id: str
    """32 hex digits, random; never reused."""
    kind: GroupKind
    label: str
    """What the group gathers: `2026-11-22` (intake, a day) or `FY2025/invoice` (a cohort)."""
    key: bytes = field(repr=False)
    """32 bytes."""
    created_at: str
    """ISO 8601, UTC."""


@dataclass(slots=True)
class Keyring:
    """One owner's keys, in memory. Changes count once `KeyringStore.save` has returned."""

    owner: str
    epoch: int
    """Number of the stored state this was loaded from or saved as; 1 is the first."""
    groups: dict[str, GroupKey] = field(default_factory=dict, repr=False)
    """By group id."""
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)
    """By name: `index` and `profile` of a client; signing and host keys of the house."""
    floor: int = 1
    """The earliest epoch whose file holds nothing that was dropped since. A root key that can forget makes
    those before it impossible to open, and leaves the others: copies of them are behind, not wrong."""

    def new_group(self, kind: GroupKind, label: str, now_iso: str) -> GroupKey:
        """Make a group with a fresh key and return it. Labels need not be unique, ids are."""
        group = GroupKey(secrets.token_hex(16), kind, label, new_key(), now_iso)
        self.groups[group.id] = group
        return group

    def group(self, group_id: str) -> GroupKey:
        """The group (raises KeyUnavailable if it is not, or not any more, here)."""
        try:
            return self.groups[group_id]
        except KeyError:
            raise KeyUnavailable(
                f"keyring {self.owner}: expected group {group_id}, found that it is not there"
            ) from None

    def drop_group(self, group_id: str) -> None:
        """Forget the group's key (raises KeyUnavailable if it is not here)."""
        self.group(group_id)
        del self.groups[group_id]
        self.former_end()

    def former_end(self) -> None:
        """Note that a key was dropped: the next save ends all former epochs."""
        self.floor = self.epoch + 1


class KeyringStore:
    """The directory of keyring files, wrapped by one root key.

    One process uses it. Everything returned from `create`, `save` and `destroy` is durable.
    """

    def __init__(self, directory: Path, root: RootKey, others: Iterable[RootKey] = ()) -> None:
        """Open the existing store in `directory` and clear what crashed writes left in it.

        Args:
            root: wraps what is saved.
            others: can still open what they have wrapped: while the root key is being replaced, some
                keyrings are under the old one and some under the new one.

        Raises:
            StoreMissing: there is none.
            StorageFailed: it can't be read or written.
        """
        if not directory.is_dir():
            raise StoreMissing(f"keyring store {directory}: expected a directory, found none")
        clear_leftovers(directory)
        self._directory = directory
        self._roots = {each.id: each for each in (*others, root)}
        self._root = root

    @property
    def root(self) -> RootKey:
        """The root key under which keyrings are saved."""
        return self._root

    def use_root(self, root: RootKey) -> None:
        """Save under `root` from here on; what others have wrapped still opens."""
        self._roots[root.id] = root
        self._root = root

    def drop_root(self, root_id: str) -> None:
        """Stop opening what another root key has wrapped (raises RuntimeError for the present one)."""
        if root_id == self._root.id:
            raise RuntimeError(f"root key {root_id}: expected one that was replaced")
        self._roots.pop(root_id, None)

    def root_of(self, owner: str) -> str:
        """The id of the root key that the stored keyring is under (raises as `load`)."""
        return _split(_read(self.path(owner), owner), owner)[0].root

    def epoch_of(self, owner: str) -> int:
        """The epoch of the stored keyring, from its clear head (raises as `load`)."""
        return _split(_read(self.path(owner), owner), owner)[0].epoch

    def epochs_left(self, owner: str) -> tuple[int, ...] | None:
        """The epochs of a keyring that can still be opened with the file of that time.

        None: all of them, because the root key is one that can't forget.
        """
        found: set[int] = set()
        for root in self._roots.values():
            subjects = root.subjects(_PURPOSE, owner)
            if subjects is None:
                return None
            found.update(_epoch(subject) for subject in subjects)
        return tuple(sorted(found))

    def _forget(
        self,
        owner: str,
        *,
        but: bytes | None = None,
        below: int | None = None,
        above: int | None = None,
    ) -> None:
        """Make epochs impossible to open, where a root key can (`RootKey.forget`).

        `but`: the one wrapping that is to stay. `below`, `above`: only earlier, only later epochs.
        """
        for root in tuple(self._roots.values()):
            for subject in root.subjects(_PURPOSE, owner) or ():
                epoch = _epoch(subject)
                if (below is None or epoch < below) and (above is None or epoch > above):
                    root.forget(purpose=_PURPOSE, subject=subject, but=but)

    def path(self, owner: str) -> Path:
        """Where the keyring of `owner` lies.

        Raises:
            VaultError: an owner that is not 1 to 64 of `A-Z a-z 0-9 _ -` (not beginning with a hyphen): no
                path can be made of it.
        """
        if not _OWNER.fullmatch(owner):
            raise VaultError("keyring: expected an owner of letters, digits, _ and -, found other")
        return self._directory / f"{owner}{_SUFFIX}"

    def create(self, owner: str, secrets: Mapping[str, bytes]) -> Keyring:
        """Make and store a new keyring, epoch 1, without groups.

        Raises:
            StoreExists: `owner` has one.
            StorageFull, StorageFailed: it can't be written.
        """
        keyring = Keyring(owner, 1, {}, dict(secrets))
        create_durably(self.path(owner), _encode(keyring, 1, self._root)[0])
        return keyring

    def load(self, owner: str) -> Keyring:
        """The stored keyring; what a crash left of its former epochs on a token is forgotten.

        Raises:
            KeyUnavailable: there is none or its epoch key was forgotten.
            WrongRootKey: it was wrapped with another root key.
            IntegrityError: it was changed.
            TokenFailed: the token does not answer.
            StorageFailed: it can't be read.
        """
        path = self.path(owner)
        content = _read(path, owner)
        while True:
            try:
                keyring = _decode(content, owner, self._roots, self._root)
                break
            except KeyUnavailable:
                # Since it was read, it may have been replaced and its epoch key forgotten.
                again = _read(path, owner)
                if again == content:
                    raise
                content = again
        # Earlier epochs only, and only once this one has opened: if someone put an older file in this
        # one's place, the key of the newer epoch is what a copy of the newer file needs.
        self._forget(owner, below=keyring.floor)
        return keyring

    def save(self, keyring: Keyring) -> None:
        """Store `keyring` as the next epoch, under a fresh epoch key, in place of the last one.

        On return `keyring.epoch` is the new number. If it raises StorageFailed, load again.

        Raises:
            RuntimeError: the stored epoch is not the one in `keyring`.
            KeyUnavailable: the keyring has been destroyed.
            IntegrityError: the stored one was changed.
            StorageFull, StorageFailed: it can't be written.
        """
        path = self.path(keyring.owner)
        stored = _split(_read(path, keyring.owner), keyring.owner)[0].epoch
        if stored != keyring.epoch:
            raise RuntimeError(
                f"keyring {keyring.owner}: expected to replace epoch {keyring.epoch}, "
                f"found epoch {stored} stored"
            )
        content, wrapped = _encode(keyring, stored + 1, self._root)
        write_durably(path, content)
        keyring.epoch = stored + 1
        # Only now, with the new file durable: a crash before this leaves former epochs' keys on the
        # token, and the next save or load takes them. The key of a save that never got here goes, too.
        self._forget(keyring.owner, below=keyring.floor)
        self._forget(keyring.owner, but=wrapped, above=stored)

    def restore(
        self, owner: str, content: bytes, *, living: Collection[str], above: int
    ) -> Keyring:
        """Put a registered copy in the place of a keyring that does not open, under a fresh epoch key.

        Args:
            living: the groups that still live; keys of others are left out, so that nothing that was
                destroyed comes back.
            above: the newest epoch known of; the restored keyring gets a later one.

        Returns:
            The keyring as it was read back.

        Raises:
            KeyUnavailable: the copy lacks a living group (it is too old).
            WrongRootKey, IntegrityError: the copy does not open.
            StorageFull, StorageFailed: it can't be written. Whatever is raised, nothing was written.
        """
        keyring = self.opened(owner, content)
        lacking = set(living) - set(keyring.groups)
        if lacking:
            raise KeyUnavailable(
                f"keyring {owner}: expected a copy with all {len(living)} living groups, found one that lacks"
                f" {len(lacking)}; take a newer copy"
            )
        for group_id in set(keyring.groups) - set(living):
            keyring.drop_group(group_id)
        data, _ = _encode(keyring, max(above, keyring.epoch) + 1, self._root)
        write_durably(self.path(owner), data)
        return self.load(owner)

    def opened(self, owner: str, content: bytes) -> Keyring:
        """A copy of a keyring, opened and not stored (raises WrongRootKey, IntegrityError)."""
        return _decode(content, owner, self._roots, self._root)

    def destroy(self, owner: str) -> None:
        """Remove the keyring durably, leftovers of crashed writes included.

        Does nothing more if it is gone already.

        Raises:
            StorageFailed: it can't be removed.
            TokenFailed: the token does not answer.
        """
        path = self.path(owner)
        # Keys on a token first: whoever finds the file (a crash may come, the token may not answer) ends
        # it again, and once it is seen to be gone nothing of it is left, leftovers of writes included.
        self._forget(owner)
        clear_leftovers(self._directory, path.name)
        remove_durably(path)

    def owners(self) -> list[str]:
        """The owners of all stored keyrings, sorted (raises StoreMissing, StorageFailed)."""
        try:
            names = [entry.name for entry in self._directory.iterdir()]
        except OSError as error:
            raise storage_error(error, "list", self._directory) from error
        stems = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return sorted(stem for stem in stems if _OWNER.fullmatch(stem))


def sealed_epoch(content: bytes, owner: str) -> int:
    """The epoch in the clear head of a sealed keyring file, without any key.

    Raises:
        IntegrityError: it is not a keyring file of `owner`.
    """
    return _split(content, owner)[0].epoch


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The second line of the file; also the associated data of what follows."""

    epoch: int
    key: bytes
    owner: str
    root: str


class _Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    created_at: str
    id: str
    key: bytes
    kind: GroupKind
    label: str


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    floor: int = 1
    groups: list[_Group]
    secrets: dict[str, bytes]


_encode_json = msgspec.json.Encoder(order="sorted").encode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_body = msgspec.json.Decoder(_Body).decode


def _encode(keyring: Keyring, epoch: int, root: RootKey) -> tuple[bytes, bytes]:
    """The file, and the wrapped epoch key in it."""
    epoch_key = new_key()
    wrapped = root.wrap(epoch_key, purpose=_PURPOSE, subject=_subject(keyring.owner, epoch))
    header = _Header(epoch=epoch, key=wrapped, owner=keyring.owner, root=root.id)
    head = _MAGIC + _encode_json(header) + b"\n"
    groups = [
        _Group(
            created_at=each.created_at, id=each.id, key=each.key, kind=each.kind, label=each.label
        )
        for each in keyring.groups.values()
    ]
    body = _encode_json(_Body(floor=keyring.floor, groups=groups, secrets=keyring.secrets))
    nonce = secrets.token_bytes(NONCE)
    return head + nonce + AESGCM(epoch_key).encrypt(nonce, body, head), wrapped


def _split(content: bytes, owner: str) -> tuple[_Header, bytes, bytes]:
    """The header, its exact bytes (magic included), and the sealed body."""
    end = content.find(b"\n", len(_MAGIC))
    if not content.startswith(_MAGIC) or end < 0:
        raise IntegrityError(
            f"keyring {owner}: expected a version 1 keyring file, found another", kind="format"
        )
    head, sealed = content[: end + 1], content[end + 1 :]
    line = head[len(_MAGIC) : -1]
    try:
        header = _decode_header(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"keyring {owner}: expected a keyring header, found other text", kind="format"
        ) from error
    if _encode_json(header) != line or header.epoch < 1 or len(header.key) != WRAPPED_KEY:
        raise IntegrityError(
            f"keyring {owner}: expected a canonical header, found another form", kind="format"
        )
    if header.owner != owner:
        raise IntegrityError(
            f"keyring {owner}: expected its own file, found another owner's", kind="header"
        )
    if len(sealed) < NONCE + TAG:
        raise IntegrityError(
            f"keyring {owner}: expected a sealed body, found {len(sealed)} bytes",
            kind="truncated",
        )
    return header, head, sealed


def _decode(content: bytes, owner: str, roots: Mapping[str, RootKey], present: RootKey) -> Keyring:
    header, head, sealed = _split(content, owner)
    root = roots.get(header.root)
    if root is None:
        raise WrongRootKey(
            f"keyring {owner}: expected root key {header.root}, found root key {present.id}"
        )
    epoch_key = root.unwrap(header.key, purpose=_PURPOSE, subject=_subject(owner, header.epoch))
    try:
        plain = AESGCM(epoch_key).decrypt(sealed[:NONCE], sealed[NONCE:], head)
    except InvalidTag as error:
        raise IntegrityError(
            f"keyring {owner}: expected its body to open, found that its tag does not fit",
            kind="chunk",
        ) from error
    try:
        body = _decode_body(plain)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # No cause is attached: the decoder quotes what it read.
        raise IntegrityError(
            f"keyring {owner}: expected groups and secrets, found other content", kind="format"
        ) from None
    groups = {
        each.id: GroupKey(each.id, each.kind, each.label, each.key, each.created_at)
        for each in body.groups
    }
    if not 1 <= body.floor <= header.epoch:
        raise IntegrityError(
            f"keyring {owner}: expected a floor up to epoch {header.epoch}, found another",
            kind="format",
        )
    if len(groups) != len(body.groups) or any(len(each.key) != KEY for each in body.groups):
        raise IntegrityError(
            f"keyring {owner}: expected distinct groups with {KEY}-byte keys, found others",
            kind="format",
        )
    return Keyring(owner, header.epoch, groups, dict(body.secrets), body.floor)


def _subject(owner: str, epoch: int) -> str:
    return f"{owner}/{epoch}"


def _epoch(subject: str) -> int:
    return int(subject.rpartition("/")[2])


def _read(path: Path, owner: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        raise KeyUnavailable(f"keyring {owner}: expected a file, found none") from error
    except OSError as error:
        raise storage_error(error, "read the keyring", path) from error
    if len(content) > _MAX_FILE:
        raise IntegrityError(
            f"keyring {owner}: expected at most {_MAX_FILE} bytes, found more", kind="length"
        )
    return content
