"""The order in which an upload becomes durable, as the kernel saw it (strace on a real core).

Killing a process does not test fsync: the page cache survives it. What a power cut would leave follows
from the order of the calls: bytes synced, name given, folder synced, record synced, and only then the reply.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.support.sftp import Gateway

CALLS = "fsync,fdatasync,link,linkat,sendto,sendmsg,write,pwrite64,unlink,unlinkat"


def traced(template, tmp_path, act) -> list[str]:
    """The core's calls, in order, while `act` was going on."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    try:
        probe = subprocess.run(
            ["strace", "-o", "/dev/null", "true"], capture_output=True, check=False
        )
    except OSError as error:
        pytest.skip(f"strace does not run here: {error.strerror}")
    if probe.returncode:
        pytest.skip("processes can't be traced here")
    gateway = Gateway(template)
    try:
        gateway.start_core(
            ["strace", "-D", "-f", "-y", "-qq", "-s", "96", "-e", f"trace={CALLS}", "-o", str(trace),
             sys.executable, "-m", "gateway.cli", "core", "-c", str(gateway.config)]
        )  # fmt: skip
        gateway.start_door()
        act(gateway)
    finally:
        gateway.close()
    return _joined(trace.read_text("utf-8", "replace").splitlines())


def _joined(lines: list[str]) -> list[str]:
    """Calls at the place where they returned: an unfinished one counts when it is resumed."""
    started: dict[str, str] = {}
    calls: list[str] = []
    for line in lines:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            started[thread] = call.removesuffix("<unfinished ...>").rstrip()
            # What leaves the process leaves when the call begins.
            if call.startswith(("sendto", "sendmsg", "write")):
                calls.append(call)
            continue
        resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", call)
        if resumed:
            begun = started.pop(thread)
            if not begun.startswith(("sendto", "sendmsg", "write")):
                calls.append(begun + resumed[2])
            continue
        calls.append(call)
    return calls


def first(calls: list[str], after: int, pattern: str) -> int:
    """The place of the first call after another that matches."""
    for place in range(after + 1, len(calls)):
        if re.search(pattern, calls[place]):
            return place
    raise AssertionError(
        f"expected {pattern} after call {after}, found: {calls[after : after + 40]}"
    )


def test_a_reply_leaves_only_after_everything_is_on_disk(template, tmp_path):
    """Blob fsync, link, folder fsync, record fsync, reply: in this order for a real upload."""
    (tmp_path / "x.bin").write_bytes(b"x" * 100_000)
    identifiers: list[str] = []

    def act(gateway: Gateway) -> None:
        done = gateway.sftp(f"put {tmp_path}/x.bin /inbox/\n")
        assert done.returncode == 0, done.stderr
        identifiers.append(gateway.documents()["x.bin"]["id"])

    calls = traced(template, tmp_path, act)
    blob = identifiers[0]
    begun = first(calls, -1, r"(sendmsg|sendto)\(.*Writable")
    synced = first(calls, begun, rf"^fsync\(\d+<[^>]*spool/{blob}>\) += 0")
    linked = first(calls, synced, rf"^link(at)?\(.*spool/{blob}.*objects/../{blob}.* = 0")
    folder = first(calls, linked, r"^fsync\(\d+<[^>]*/objects/[0-9a-f]{2}>\) += 0")
    written = first(calls, folder, r"^pwrite64\(\d+<[^>]*-wal>")
    reply = first(calls, begun, r"(sendmsg|sendto)\(.*Done")
    # The last sync before the reply: a job of the core's own may have been recorded just before.
    record = max(
        place
        for place in range(written, reply)
        if re.search(r"^f(data)?sync\(\d+<[^>]*-wal>\) += 0", calls[place])
    )
    assert begun < synced < linked < folder < written < record < reply
    # Nothing else was written to the log of the catalogue between its sync and the reply.
    later = [
        call for call in calls[record + 1 : reply] if re.search(r"^pwrite64\(\d+<[^>]*-wal>", call)
    ]
    assert later == []


def test_a_download_is_recorded_before_its_descriptor_leaves(template, tmp_path):
    """The ledger entry of an opened document is synced before the reader gets descriptor and key."""
    (tmp_path / "x.bin").write_bytes(b"x" * 100_000)

    def act(gateway: Gateway) -> None:
        assert gateway.sftp(f"put {tmp_path}/x.bin /inbox/\n").returncode == 0
        gateway.file_received()
        done = gateway.sftp(f"get /clients/acme/2025/invoice/x.bin {tmp_path}/back\n", "accountant")
        assert done.returncode == 0, done.stderr

    calls = traced(template, tmp_path, act)
    replies = [
        place
        for place, call in enumerate(calls)
        if re.search(r"^(sendmsg|sendto)\(.*(Readable)", call)
    ]
    assert len(replies) == 1
    wal = r"\(\d+<[^>]*-wal>"
    before = [
        call for call in calls[: replies[0]] if re.search(rf"^(pwrite64|f(data)?sync){wal}", call)
    ]
    assert re.search(rf"^f(data)?sync{wal}\) += 0", before[-1]), before[-3:]
    previous = max(
        place
        for place, call in enumerate(calls[: replies[0]])
        if re.search(r"^(sendmsg|sendto)\(.*type", call)
    )
    between = calls[previous : replies[0]]
    assert any(re.search(rf"^pwrite64{wal}", call) for call in between), between
