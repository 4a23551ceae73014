"""What `strongroom run` shows where a demonstration was set up: commands to paste, one sitting long.

Promises: each command works as printed, pasted into another terminal in the same folder, with what the
installation and a plain system have (OpenSSH's client, this Python): a document sent by SFTP and one by
e-mail, listed, fetched, destroyed with proof, and the ledger verified.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

from gateway.config import Config, parse_listen
from gateway.install import demonstration

# Double quotes inside, so that the shell's single quotes around them stay readable.
_MAIL: Final = (
    'import smtplib, sys; door = smtplib.SMTP("{host}", {port}); '
    'door.sendmail("{sender}", ["{recipient}"], open(sys.argv[1], "rb").read()); door.quit()'
)
_NEWEST: Final = 'import json, sys; print(json.load(sys.stdin)[-1]["id"])'
_NAMED: Final = 'import json, sys; print(json.load(sys.stdin)["certificate"])'


def lines(config: Config) -> list[str]:
    """The tour of an installation; empty without a demonstration."""
    demo = config.base / demonstration.FOLDER
    if not demo.is_dir():
        return []
    host, port = parse_listen(config.sftp.listen, "sftp.listen")
    ssh = f"-P {port} -o IdentitiesOnly=yes -o UserKnownHostsFile={shown(demo / 'known_hosts')}"
    mail_host, mail_port = parse_listen(config.smtp.listen, "smtp.listen")
    mail = _MAIL.format(
        host=mail_host,
        port=mail_port,
        sender=demonstration.SENDER,
        recipient=f"{demonstration.CLIENT}@{config.smtp.domain}",
    )
    samples = demo / demonstration.SAMPLES
    note, invoice, message = (
        shown(samples / name)
        for name in (demonstration.NOTE, demonstration.INVOICE, demonstration.MESSAGE)
    )
    at = f"[{host}]" if ":" in host else host
    strongroom = program()
    python = shlex.quote(_relative(Path(sys.executable)))
    c = f"-c {shown(config.source.absolute())}"

    def as_person(name: str) -> str:
        return f"--as {name} --key {shown(demo / name)}"

    def login(name: str) -> str:
        return f"{ssh} -i {shown(demo / name)}"

    execute = f'{strongroom} disposal execute "$BATCH" {as_person("officer3")} {c} --json'
    proof = '"certificate-$CERTIFICATE"'
    # Any fiscal year: it is the one of the day on which the note arrives.
    filed = f"/clients/{demonstration.CLIENT}/*/{demonstration.NOTE_CLASS}/{demonstration.NOTE}"
    source = shlex.quote(f"accountant@{at}:{filed}")
    return [
        "",
        "A demonstration is set up. Paste these into another terminal in this folder:",
        "",
        "# A client sends two documents by SFTP, and one by e-mail",
        f"scp {login('acme')} {note} {invoice} acme@{at}:/inbox/",
        f"{python} -c {shlex.quote(mail)} {message}",
        "",
        "# What arrived (a moment later it is scanned, classified and filed)",
        f"{strongroom} status {c}",
        f"{strongroom} document list {c}",
        "",
        "# The accountant fetches one",
        f"scp {login('accountant')} {source} fetched-note.txt",
        "",
        "# The note's demonstration period is over at once: it is destroyed, by three people, with proof",
        f"{strongroom} disposal propose {c}",
        f"BATCH=$({strongroom} disposal list {c} --json | {python} -c {shlex.quote(_NEWEST)})",
        f'{strongroom} disposal approve "$BATCH" {as_person("officer1")} {c}',
        f'{strongroom} disposal approve "$BATCH" {as_person("officer2")} {c}',
        f"CERTIFICATE=$({execute} | {python} -c {shlex.quote(_NAMED)})",
        f'{strongroom} certificate show "$CERTIFICATE" {c} --output {proof}.json --pdf {proof}.pdf',
        f"{strongroom} certificate verify {c} {proof}.json",
        "",
        "# Everything that happened is in the ledger, and nothing of it was changed",
        f"{strongroom} ledger verify {c}",
        "",
    ]


def program() -> str:
    """How this program was called, so that it can be called again from the same folder."""
    called = Path(sys.argv[0])
    if called.name == "strongroom" and called.is_file():
        return shlex.quote(_relative(called))
    return f"{shlex.quote(_relative(Path(sys.executable)))} -m gateway.cli"


def shown(path: Path) -> str:
    """A path as it can be pasted here: relative where it lies below the current folder."""
    return shlex.quote(_relative(path))


def _relative(path: Path) -> str:
    # Not resolved: a virtual environment's Python is a link, and only its own path is the environment.
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
