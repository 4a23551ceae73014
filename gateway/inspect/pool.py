"""The manager of the inspectors: keeps workers, ends those that take too long, replaces them.

Promises: as many workers as configured wait for documents, and stand back for whoever works beside them. One
that exceeds its wall-clock deadline is killed; what it stood in line for a processor does not count. One that
dies is replaced, at once after work, with a growing pause when workers die without having done any. The
manager itself never opens a document and never speaks to the core.
Leaves out: who gets what (the core), and the meaning of a death (the core sees the connection break).

Rules: single thread, no event loop. Parsers are imported here, before forking, so that a worker costs
a fork and not a second of imports; whatever they set up is set up once (`rehearsal`). SIGTERM and
SIGINT end it in order: no new workers, those that wait are ended, those at work may finish within their
deadline.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from gateway.config import InspectSection
from gateway.inspect.classify import classify, media
from gateway.inspect.document import MIB
from gateway.inspect.formats import archive_stream
from gateway.inspect.rehearsal import rehearse
from gateway.inspect.scan import pdf
from gateway.inspect.scan.yara import RuleSet
from gateway.inspect.worker import EXIT_DONE, EXIT_NO_CORE, STARTED, serve_one
from gateway.process.priority import stand_back, stood_in_line
from gateway.process.sandbox import probe_sandbox, readable_folders

_PAUSE_FIRST: Final = 0.1
_PAUSE_MOST: Final = 10.0
_WALL_PER_MIB: Final = 2.0  # seconds that each MiB of a document adds to its deadline
_TICK: Final = 1.0  # how late a deadline may be noticed, in seconds
_STOP_SECONDS: Final = 10.0

log = structlog.get_logger("inspect")


def _nothing() -> None:
    """Nobody waits to hear that the pool is up."""


@dataclass(slots=True)
class _Worker:
    pid: int
    pipe: int
    deadline: float | None = None  # None while it waits for work
    killed: bool = False


@dataclass(slots=True)
class _Pool:
    section: InspectSection
    socket: Path
    rules: RuleSet
    readable: tuple[Path, ...]
    workers: dict[int, _Worker] = field(default_factory=dict)
    pause: float = 0.0
    not_before: float = 0.0
    stopping: bool = False


def run(
    section: InspectSection,
    socket: Path,
    *,
    yara_rules: Path | None = None,
    ready: Callable[[], None] = _nothing,
) -> None:
    """Run the pool until SIGTERM or SIGINT. Blocks; to be called in the process's main thread.

    Args:
        section: how many workers, and what each may spend.
        socket: the core's inspectors' socket.
        yara_rules: a directory with further rules (`*.yar`); the section has it as it was written.
        ready: called once, when the first workers were started.

    Raises:
        ConfigurationError: a rule file can't be used.
    """
    if not stand_back():
        log.warning("inspect.not_standing_back")
    _preload()
    pool = _Pool(section, socket, RuleSet.load(yara_rules), tuple(readable_folders()))
    rehearse()
    gc.collect()
    gc.freeze()  # collections in a worker would otherwise copy every page it shares with this process
    missing = sorted(name for name, there in probe_sandbox().items() if not there)
    if missing:
        log.warning("inspect.fences_missing", fences=missing)
    with _signals() as wakeup, selectors.DefaultSelector() as selector:
        selector.register(wakeup, selectors.EVENT_READ)
        _fill(pool, selector)
        ready()
        log.info("inspect.ready", workers=section.workers, rules=pool.rules.version)
        while not pool.stopping:
            _turn(pool, selector, wakeup)
            _fill(pool, selector)
        _stop(pool, selector, wakeup)
    log.info("inspect.stopped")


def _preload() -> None:
    """Import what workers use and set up what is set up once per process."""
    import email.message
    import zipfile

    import fast_mail_parser
    import lxml.etree
    import msoffcrypto
    import olefile
    import pikepdf
    import pypdfium2
    import python_calamine
    from oletools import olevba, rtfobj

    del (
        email,
        zipfile,
        fast_mail_parser,
        lxml,
        msoffcrypto,
        olefile,
        pikepdf,
        pypdfium2,
        python_calamine,
    )
    del olevba, rtfobj
    media.preload()
    archive_stream.preload()
    classify.preload()
    pdf.limit_library()


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable on SIGCHLD, SIGTERM and SIGINT; one byte per signal."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda _number, _frame: None) for number in numbers]
    old = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def _fill(pool: _Pool, selector: selectors.BaseSelector) -> None:
    if time.monotonic() < pool.not_before:
        return
    while len(pool.workers) < pool.section.workers:
        worker = _start(pool)
        pool.workers[worker.pid] = worker
        selector.register(worker.pipe, selectors.EVENT_READ, worker)


def _start(pool: _Pool) -> _Worker:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        serve_one(pool.section, pool.socket, pool.rules, writing, parent, pool.readable)
    os.close(writing)
    return _Worker(pid, reading)


def _turn(pool: _Pool, selector: selectors.BaseSelector, wakeup: int) -> None:
    """Wait for something to happen, and see to it."""
    timeout = _TICK
    if len(pool.workers) < pool.section.workers and not pool.stopping:
        timeout = min(_TICK, max(0.0, pool.not_before - time.monotonic()))
    for key, _events in selector.select(timeout):
        if key.fileobj == wakeup:
            numbers = os.read(wakeup, 4096)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                pool.stopping = True
        elif isinstance(key.data, _Worker):
            _note_started(pool, selector, key.data)
    _reap(pool, selector)
    _kill_late(pool)


def _note_started(pool: _Pool, selector: selectors.BaseSelector, worker: _Worker) -> None:
    selector.unregister(worker.pipe)
    message = os.read(worker.pipe, STARTED.size)
    if len(message) == STARTED.size:
        (size,) = STARTED.unpack(message)
        allowed = pool.section.wall_seconds + size / MIB * _WALL_PER_MIB
        worker.deadline = time.monotonic() + allowed


def _kill_late(pool: _Pool) -> None:
    now = time.monotonic()
    for worker in pool.workers.values():
        if worker.deadline is None or now <= worker.deadline or worker.killed:
            continue
        # What others' work kept it from is not its own time: who stands back may stand in line for long.
        if now > worker.deadline + stood_in_line(worker.pid):
            worker.killed = True
            log.warning("inspect.deadline", pid=worker.pid)
            _kill(worker)


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker.pid, signal.SIGKILL)


def _reap(pool: _Pool, selector: selectors.BaseSelector) -> None:
    for worker in list(pool.workers.values()):
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if pid == 0:
            continue
        del pool.workers[pid]
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(worker.pipe)
        os.close(worker.pipe)
        code = os.waitstatus_to_exitcode(status)
        if code == EXIT_DONE:
            pool.pause = 0.0
            continue
        if worker.deadline is None:
            # It never got a document: the core is not there, or workers can't start at all.
            pool.pause = min(_PAUSE_MOST, max(_PAUSE_FIRST, pool.pause * 2))
            pool.not_before = time.monotonic() + pool.pause
        if code != EXIT_NO_CORE and not pool.stopping:
            log.warning(
                "inspect.worker_ended", pid=pid, code=code, working=worker.deadline is not None
            )


def _stop(pool: _Pool, selector: selectors.BaseSelector, wakeup: int) -> None:
    """End those that wait at once; let those at work finish, but not for ever."""
    until = time.monotonic() + _STOP_SECONDS
    for worker in pool.workers.values():
        if worker.deadline is None:
            _kill(worker)
    while pool.workers:
        if time.monotonic() > until:
            for worker in pool.workers.values():
                _kill(worker)
        _turn(pool, selector, wakeup)
