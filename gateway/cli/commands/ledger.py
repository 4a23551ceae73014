"""`strongroom ledger`: verify, export and prove, and verify proofs without any store.

Promises: an export never replaces a file of entries, and brings a folder of tiles forward only if what it
holds is of this ledger's history; its checkpoint is written last, so that an interrupted export is simply
done again. `verify-proof` needs no installation: a file, the ledger's verifier keys, and for consistency two
checkpoints. Leaves out: everything about the history itself (`gateway.core.admin.ledger`).
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from gateway.cli.support import output, verifier_keys
from gateway.cli.support.command import Ask, Shown, command, sentence, verbatim
from gateway.cli.support.connection import Console
from gateway.cli.support.options import REQUIRED, argument, flag, new_group, option
from gateway.errors import ConfigurationError, GatewayError
from vault.catalogue.ledger_keys import verify_by_any
from vault.ledger.merkle import leaf_hash, verify_consistency
from vault.ledger.note import Checkpoint, NoteError, parse_proof, verify_proof
from vault.ledger.tiles import Tile, full_between, partials
from vault.storage.durable import make_directory, write_durably

group = new_group("The ledger: every act, tamper-evident.")

_LEDGER_PAGE: Final = 2000
_TILES_AT_ONCE: Final = 64
_CHECKPOINT: Final = "checkpoint"
_PUBLIC: Final = 0o644  # an export is there to be served
_PUBLIC_FOLDER: Final = 0o755


@command(group, act="ledger.verify")
def verify(
    ask: Ask,
    against: list[Path] | None = option(
        "--against", "A checkpoint kept elsewhere; repeatable.", None, metavar="FILE"
    ),
) -> Shown:
    """Recompute the ledger and hold it against its checkpoints; exit code 1 if they disagree."""
    texts = [output.read_text(path) for path in against or []]
    data = ask(against=texts)

    def show() -> None:
        output.details(data)
        output.say("The ledger is whole." if not data["findings"] else "THE LEDGER IS NOT WHOLE.")

    return Shown(data, show)


@command(group, act="ledger.checkpoint")
def checkpoint(ask: Ask) -> Shown:
    """Print the newest signed checkpoint: keep a copy elsewhere."""
    data = ask()
    return verbatim(data, data["checkpoint"])


@command(group, act="ledger.settle", signed=True)
def settle(
    ask: Ask,
    name: str = argument("NAME", "A place that the configuration names no more."),
) -> Shown:
    """State that a place of checkpoints is in use no more (an officer's act); `check` forgets it."""
    data = ask(name=name)
    return sentence(data, f"Place {data['name']} is settled: `check` no longer asks for it.")


@command(group, "export")
def export(
    ask: Ask,
    to: Path = argument("FILE|DIR", "A new file; with --tiles a folder."),
    tiles: bool = flag(
        "--tiles",
        "Write checkpoint, keys and tiles that any web server can serve (C2SP tlog-tiles).",
    ),
) -> Shown:
    """Write every entry, as it is hashed, to a new file (JSON lines), or bring a folder of tiles forward."""
    if tiles:
        return _export_tiles(to, ask)
    count = 0

    def lines(console: Console) -> Iterator[bytes]:
        nonlocal count
        while True:
            page = console.act("ledger.export", {"start": count, "limit": _LEDGER_PAGE}).data
            count += len(page["entries"])
            yield b"".join(entry.encode() + b"\n" for entry in page["entries"])
            if len(page["entries"]) < _LEDGER_PAGE:
                return

    with ask.console() as console:
        output.write_pieces(to, lines(console))
    return sentence({"file": str(to), "entries": count}, f"{count} entries written to {to}.")


def _export_tiles(folder: Path, ask: Ask) -> Shown:
    # 1. What is there is an export, or nothing.
    known = _exported(folder)
    with ask.console() as console:
        # 2. It is of this history: the core says, or refuses.
        data = console.act("ledger.snapshot", {"known": known}).data
        old, size = int(data["known"]), int(data["size"])
        folder.mkdir(_PUBLIC_FOLDER, parents=True, exist_ok=True)
        for name, text in data["keys"].items():
            _write(folder / "keys" / name, text.encode())
        # 3. Tiles: full ones that are new, then the partial ones of this size.
        wanted = itertools.chain(full_between(old, size), partials(size) if size > old else ())
        count = 0
        for tile, content in _fetched(console, wanted):
            _write(folder / tile.path, content)
            count += 1
        # 4. The checkpoint, once everything it needs is there; then what full tiles have replaced.
        _write(folder / _CHECKPOINT, data["checkpoint"].encode())
    still = {tile.folder for tile in partials(size)}
    for tile in partials(old):
        if tile.folder not in still:
            shutil.rmtree(folder / tile.folder, ignore_errors=True)
    result = {"folder": str(folder), "entries": size, "before": old, "tiles": count}
    return sentence(result, f"{size} entries in {folder} ({old} before, {count} tiles written).")


def _exported(folder: Path) -> str:
    """The checkpoint of the export in a folder; "": there is none yet, or it was not finished.

    Raises:
        ConfigurationError: there is something else.
    """
    try:
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: expected a folder to write to, found {error.strerror}"
        ) from error
    if others := names - {_CHECKPOINT, "keys", "tile"}:
        raise ConfigurationError(
            f"{folder}: expected an empty folder or an export, found {min(others)!r} in it"
        )
    return output.read_text(folder / _CHECKPOINT) if _CHECKPOINT in names else ""


def _fetched(console: Console, wanted: Iterable[Tile]) -> Iterator[tuple[Tile, bytes]]:
    """Tiles with their bytes, some at a time."""
    remaining = iter(wanted)
    while some := list(itertools.islice(remaining, _TILES_AT_ONCE)):
        names = [{"level": t.level, "index": t.index, "width": t.width} for t in some]
        reply, descriptor = console.open("ledger.tiles", {"tiles": names}, None)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            for tile in some:
                length = int.from_bytes(file.read(4), "big")
                content = file.read(length)
                if not length or len(content) != length:
                    raise GatewayError(
                        f"{tile.path}: expected it whole among {reply.size} bytes, found less"
                    )
                yield tile, content


def _write(path: Path, data: bytes) -> None:
    missing = [each for each in path.parents if not each.exists()]
    for each in reversed(missing):
        make_directory(each, _PUBLIC_FOLDER)
    write_durably(path, data, mode=_PUBLIC)


@command(group, act="ledger.prove")
def prove(
    ask: Ask,
    entry: int = argument("N", "The entry's index, from 0."),
) -> Shown:
    """Print the proof that an entry is in the ledger (C2SP tlog-proof; the entry in its extra line)."""
    data = ask(entry=entry)
    return verbatim(data, data["proof"])


@command(group, act="ledger.consistency")
def consistency(
    ask: Ask,
    old: int = argument("OLD", "The smaller size, in entries."),
    new: int | None = argument("[NEW]", "The larger size; the newest checkpoint's else.", None),
) -> Shown:
    """Print the proof that the history only grew between two sizes (RFC 6962), a hash in base64 a line."""
    data = ask(old=old, new=new)
    lines = (base64.b64encode(bytes.fromhex(each)).decode() for each in data["hashes"])
    return verbatim(data, "".join(f"{line}\n" for line in lines))


@command(group, "verify-proof", offline=True)
def check_proof(
    ask: Ask,
    proof: Path = argument("FILE", "What prove or consistency printed."),
    vkey: list[str] = option(
        "--vkey",
        "A key of the ledger as you know it, or a file of keys; repeatable.",
        REQUIRED,
        metavar="KEY|FILE",
    ),
    old: Path | None = option(
        "--old", "For consistency: the older checkpoint.", None, metavar="FILE"
    ),
    new: Path | None = option(
        "--new", "For consistency: the newer checkpoint.", None, metavar="FILE"
    ),
) -> Shown:
    """Verify a proof offline, without any store; exit code 1 if it proves nothing."""
    del ask
    keys = list(verifier_keys.read(vkey))
    text = output.read_text(proof)
    if (old is None) != (new is None):
        raise ConfigurationError("verify-proof: expected --old and --new together")
    if old is None or new is None:
        result = _inclusion(text, keys)
    else:
        result = _consistent(text, output.read_text(old), output.read_text(new), keys)

    def show() -> None:
        output.details(result)
        output.say("Verified.")

    return Shown(result, show)


def _inclusion(text: str, keys: list[str]) -> dict[str, Any]:
    """Verify a proof with its entry in it (raises NoteError)."""
    parsed = parse_proof(text)
    if parsed.extra is None:
        raise NoteError("proof: expected the entry in its extra line, found none")
    _, signer = verify_by_any(parsed.note, keys)
    found = verify_proof(text, leaf_hash(parsed.extra), signer)
    return {
        "entry": parsed.extra.decode("utf-8", "replace"),
        "index": found.index,
        "size": found.checkpoint.size,
        "origin": found.checkpoint.origin,
        "signed_by": signer,
    }


def _consistent(text: str, old: str, new: str, keys: list[str]) -> dict[str, Any]:
    """Verify a proof between two checkpoints (raises NoteError)."""
    older, newer = (Checkpoint.parse(verify_by_any(note, keys)[0]) for note in (old, new))
    if older.origin != newer.origin:
        raise NoteError("checkpoints: expected two of one ledger, found two ledgers")
    try:
        hashes = [base64.b64decode(line, validate=True) for line in text.split()]
    except binascii.Error as error:
        raise NoteError(
            "consistency proof: expected lines of base64, found another text"
        ) from error
    if not verify_consistency(older.size, newer.size, hashes, older.root, newer.root):
        raise NoteError(
            f"consistency proof: expected one from {older.size} to {newer.size} entries, found one that"
            " does not lead there"
        )
    return {"old": older.size, "new": newer.size, "origin": newer.origin}
