"""The pool of disposable workers: every document gets its own process, in jail, under a deadline."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import libarchive
import pikepdf
import pytest

from gateway.config import InspectSection
from gateway.errors import ConfigurationError
from gateway.inspect import pool
from gateway.inspect.scan.yara import RuleSet
from gateway.process import priority
from tests.scenarios.test_locked import locked_zip
from tests.unit.inspect import fake_core as fake
from tests.unit.inspect.test_seven_zip import sample

ROOT = Path(__file__).resolve().parents[3]
EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD" + b"-ANTIVIRUS-TEST-FILE!$H+H*"
NOTE = b"Strongroom demonstration note\nDate: 2026-01-31\n\nNothing of value.\n"
MAIN = """
import sys
from pathlib import Path
from gateway.config import InspectSection
from gateway.inspect.pool import run
MIB = 1024 * 1024
given = dict(cpu_seconds=60, wall_seconds=60.0, max_expanded_size=1024 * MIB, max_parts=1000)
section = InspectSection(**(given | dict({settings})))
run(section, Path(sys.argv[1]), ready=lambda: print("up", flush=True))
"""


@contextlib.contextmanager
def pool_running(socket_path, **settings):
    arguments = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN.format(settings=arguments), str(socket_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout.readline().strip() == b"up"
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        assert process.returncode == 0


@pytest.fixture
def core(tmp_path):
    served = fake.FakeCore(tmp_path / "inspect.sock")
    yield served
    served.close()
    assert [e for e in served.errors if isinstance(e, AssertionError)] == []


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def outcomes(verdict):
    return {scan.scanner: scan.outcome for scan in verdict.scans}


def children(pid):
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_documents_are_inspected_each_in_a_process_of_its_own(core):
    documents = {"d1": NOTE, "d2": EICAR, "d3": b"", "d4": os.urandom(300_000)}
    for document_id, data in documents.items():
        core.offer(document_id, data)
    with pool_running(core.path, workers=2):
        verdicts = {}
        for _ in documents:
            verdict = core.verdicts.get(timeout=20)
            verdicts[verdict.document_id] = verdict
    for document_id, data in documents.items():
        assert verdicts[document_id].size == len(data)
        assert verdicts[document_id].sha256 == hashlib.sha256(data).digest()
    assert outcomes(verdicts["d1"])["yara"] == "clean"
    assert verdicts["d1"].classification.record_class == "demonstration-note"
    assert verdicts["d1"].classification.confidence >= 0.8
    assert verdicts["d1"].classification.document_date == "2026-01-31"
    assert outcomes(verdicts["d2"])["yara"] == "found"
    assert outcomes(verdicts["d4"])["format"] == "suspect"


def test_members_of_an_archive_become_sealed_parts(core):
    core.offer("box", zipped(a=NOTE, b=EICAR), name="box.zip")
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert [core.parts[part] for part in verdict.parts] == [("a", NOTE), ("b", EICAR)]
    assert verdict.media_type == "application/zip"


def test_what_is_attached_to_a_winmail_dat_and_to_a_pdf_becomes_sealed_parts(core):
    def attribute(level, identifier, value):
        head = struct.pack("<BII", level, identifier, len(value))
        return head + value + struct.pack("<H", sum(value) & 0xFFFF)

    winmail = b"\x78\x9f\x3e\x22\1\0" + attribute(2, 0x00069002, bytes(14))
    winmail += attribute(2, 0x00018010, b"a.txt\0") + attribute(2, 0x0006800F, NOTE)
    made = pikepdf.new()
    made.add_blank_page()
    made.attachments["b.txt"] = pikepdf.AttachedFileSpec(made, NOTE, filename="b.txt")
    buffer = io.BytesIO()
    made.save(buffer)
    core.offer("winmail", winmail, name="winmail.dat")
    core.offer("invoice", buffer.getvalue(), name="invoice.pdf")
    with pool_running(core.path, workers=1):
        verdicts = [core.verdicts.get(timeout=20) for _ in range(2)]
    parts = [[core.parts[part] for part in verdict.parts] for verdict in verdicts]
    assert sorted(parts) == [[("a.txt", NOTE)], [("b.txt", NOTE)]]
    assert all(set(outcomes(each).values()) <= {"clean", "skipped"} for each in verdicts)


def tarred(members, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def seven_zip(name, content):
    pieces = []
    with libarchive.custom_writer(
        lambda data: pieces.append(bytes(data)) or len(data), "7zip"
    ) as out:
        out.add_file_from_memory(name, len(content), content)
    return b"".join(pieces)


def test_archives_that_the_systems_library_opens_are_opened_in_the_sandbox(core, monkeypatch):
    monkeypatch.setenv(
        "LC_ALL", "C"
    )  # names in 7z are UTF-16, which the process must have room for
    core.offer("tar", tarred([("x/发票.txt", NOTE)], "w:xz"), name="a.tar.xz")
    core.offer("7z", seven_zip("x/对账单.txt", NOTE), name="b.7z")
    with pool_running(core.path, workers=1):
        verdicts = [core.verdicts.get(timeout=30) for _ in range(2)]
    assert sorted(core.parts.values()) == sorted([("发票.txt", NOTE), ("对账单.txt", NOTE)])
    assert {verdict.unreadable for verdict in verdicts} == {""}


def test_what_is_locked_is_opened_in_the_sandbox_with_the_passwords_handed_over(core):
    made, locked = pikepdf.new(), io.BytesIO()
    made.add_blank_page()
    made.save(locked, encryption=pikepdf.Encryption(owner="o", user="u", R=6))
    core.offer("pdf", locked.getvalue(), name="a.pdf", passwords=["wrong", "u"])
    core.offer("again", locked.getvalue(), name="a.pdf", passwords=["wrong"])
    with pool_running(core.path, workers=1):
        opened, shut = core.verdicts.get(timeout=30), core.verdicts.get(timeout=30)
    assert (opened.opened_with, opened.lock, opened.unreadable) == (1, "", "")
    assert (shut.opened_with, shut.lock, shut.unreadable) == (-1, "pdf", "encrypted")
    ((name, content),) = core.parts.values()
    assert name == "a.pdf"
    with pikepdf.open(io.BytesIO(content)) as plain:
        assert not plain.is_encrypted


def test_locked_archives_are_opened_in_the_sandbox(core):
    core.offer("7z", sample("lzma2-names"), name="a.7z", passwords=["wrong", "abc123"])
    core.offer("zip", locked_zip(("b.txt", NOTE)), name="b.zip", passwords=["abc123"])
    with pool_running(core.path, workers=1):
        verdicts = [core.verdicts.get(timeout=30) for _ in range(2)]
    assert [(each.lock, each.unreadable) for each in verdicts] == [("", "")] * 2
    assert sorted(each.opened_with for each in verdicts) == [0, 1]
    names = sorted(name for name, _ in core.parts.values())
    assert names == ["b.txt", "b.txt", "empty.txt", "发票.txt"]


def test_an_archive_of_200_megabytes_in_5000_members_stays_within_the_memory_of_a_worker(core):
    core.keep_parts = False
    filling = os.urandom(40_000)
    members = [(f"{n}.bin", n.to_bytes(4, "big") + filling) for n in range(5000)]
    core.offer("large", tarred(members, "w"), name="large.tar")
    with pool_running(core.path, workers=1, max_parts=5000, memory_limit=256 * 1024 * 1024):
        verdict = core.verdicts.get(timeout=120)
    assert verdict.unreadable == ""
    assert len(verdict.parts) == 5000


def test_an_archive_that_upsets_a_worker_costs_that_worker_only(core):
    core.answer_parts = False
    core.offer("hangs", tarred([("a", NOTE)], "w"), name="a.tar")
    with pool_running(core.path, workers=1, wall_seconds=1.0):
        assert core.lost.get(timeout=30) == "hangs"
        core.answer_parts = True
        core.offer("next", tarred([("a", NOTE)], "w"), name="a.tar")
        assert core.verdicts.get(timeout=30).document_id == "next"


def test_a_part_that_turns_out_damaged_is_abandoned_and_the_others_kept(core):
    data = bytearray(zipped(good=b"fine", bad=b"A" * 5000))
    start = data.index(b"bad") + 3
    data[start] ^= 0xFF
    core.offer("box", bytes(data))
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert [core.parts[part][0] for part in verdict.parts] == ["good"]
    assert core.abandoned == ["bad"]
    assert verdict.unreadable == "malformed"


def test_a_refused_part_is_an_error_and_never_clean(core):
    core.refuse_parts = True
    core.offer("box", zipped(a=b"x"))
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert outcomes(verdict)["unpack"] == "error"
    assert verdict.parts == []


def test_a_worker_over_its_deadline_is_killed_and_the_next_document_served(core):
    core.answer_parts = False  # the worker waits for ever
    core.offer("hangs", zipped(a=b"x"))
    with pool_running(core.path, workers=1, wall_seconds=1.0):
        begun = time.monotonic()
        assert core.lost.get(timeout=20) == "hangs"
        assert time.monotonic() - begun < 10
        core.answer_parts = True
        core.offer("next", NOTE)
        assert core.verdicts.get(timeout=20).document_id == "next"


def test_waiting_for_work_is_not_held_against_a_worker(core):
    with pool_running(core.path, workers=1, wall_seconds=0.5) as process:
        before = children(process.pid)
        time.sleep(2.5)
        assert children(process.pid) == before
        core.offer("late", NOTE)
        assert core.verdicts.get(timeout=20).document_id == "late"


def test_the_pool_waits_for_a_core_that_is_not_there_yet(tmp_path):
    path = tmp_path / "inspect.sock"
    with pool_running(path, workers=2):
        time.sleep(1)
        core = fake.FakeCore(path)
        core.offer("first", NOTE)
        assert core.verdicts.get(timeout=20).document_id == "first"
        core.close()


def test_workers_stand_back_for_whoever_works_beside_them(core):
    with pool_running(core.path, workers=1) as process:
        deadline = time.monotonic() + 10
        while not children(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        (worker,) = map(int, children(process.pid))
        assert os.getpriority(os.PRIO_PROCESS, worker) == 19
        assert os.sched_getscheduler(worker) == os.SCHED_BATCH


def test_what_a_worker_stood_in_line_for_a_processor_is_not_held_against_it(monkeypatch):
    now = time.monotonic()
    late = {pid: pool._Worker(pid, -1, now - over) for pid, over in ((1, 5.0), (2, 50.0))}
    late[3] = pool._Worker(3, -1)  # it waits for work
    killed = []
    monkeypatch.setattr(pool, "stood_in_line", lambda _pid: 20.0)
    monkeypatch.setattr(pool, "_kill", lambda worker: killed.append(worker.pid))
    state = pool._Pool(InspectSection(), Path("none"), RuleSet.load(), (), late)
    pool._kill_late(state)
    pool._kill_late(state)
    assert killed == [2]


def test_time_in_line_is_what_others_took():
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for each in busy:
            os.sched_setaffinity(each.pid, {min(os.sched_getaffinity(0))})
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if all(priority.stood_in_line(each.pid) > 0 for each in busy):
                break
            time.sleep(0.05)
        else:
            pytest.skip("this kernel does not tell")
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert priority.stood_in_line(busy[0].pid) == 0.0  # gone: nothing to tell


def test_a_worker_killed_from_outside_is_replaced(core):
    with pool_running(core.path, workers=1) as process:
        deadline = time.monotonic() + 10
        while not children(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        (worker,) = children(process.pid)
        os.kill(int(worker), signal.SIGSEGV)
        core.offer("after", NOTE)
        assert core.verdicts.get(timeout=20).document_id == "after"


def test_workers_die_with_a_manager_that_is_killed(core):
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN.format(settings="workers=2"), str(core.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdout.readline()
    core.answer_parts = False
    core.offer("hangs", zipped(a=b"x"))
    time.sleep(1.5)
    process.kill()
    process.wait()
    assert core.lost.get(timeout=10) == "hangs"


def test_fixity_reads_everything_and_parses_nothing(core):
    data = zipped(a=EICAR)
    core.offer("old", data, mode="fixity")
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert (verdict.size, verdict.sha256) == (len(data), hashlib.sha256(data).digest())
    assert outcomes(verdict) == {"fixity": "clean"}
    assert verdict.parts == []


@pytest.mark.parametrize("mode", ["inspect", "fixity"])
@pytest.mark.parametrize("damage", [3, 40, 60, 20_000])
def test_a_damaged_sealed_file_gets_a_verdict_without_a_digest(core, mode, damage):
    core.offer("damaged", b"x" * 50_000, mode=mode, damage=damage)
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert verdict.sha256 == b""
    assert outcomes(verdict) == {"fixity": "error"}


def test_a_scanner_that_is_not_there_is_unavailable_and_not_clean(core, tmp_path):
    core.offer("d", NOTE, clamd=f"unix:{tmp_path}/no.sock")
    with pool_running(core.path, workers=1):
        verdict = core.verdicts.get(timeout=20)
    assert outcomes(verdict)["clamd"] == "unavailable"


def test_broken_rules_of_the_operator_are_refused_by_name(tmp_path):
    (tmp_path / "own.yar").write_text("rule broken { condition: nonsense }")
    with pytest.raises(ConfigurationError, match=r"local/own\.yar: expected valid YARA rules"):
        RuleSet.load(tmp_path)
    with pytest.raises(ConfigurationError, match="expected a directory"):
        RuleSet.load(tmp_path / "absent")
