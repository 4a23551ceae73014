"""The catalogue: one SQLite file, one writing connection, group commit.

Promises:
- What `submit`'s future returns is on disk (journal WAL, `synchronous=FULL`): acknowledged means durable.
- One thread of one process writes. SQLite before 3.51.3 can corrupt a WAL database that has two writing
  connections, so readers open the file read-only and the store's lock keeps other processes out.
- Works that wait at the same moment are committed together: one fsync for all. Each runs in its own
  savepoint; one that raises takes back its own changes (ledger entries included) and nobody else's.
- One thread at a time writes: the writing thread, or a loop that runs the one work it has brought itself
  (`run_here`), which spares two threads waking each other.
- Whoever waits for an answer comes first. A work of the background runs when nobody else's is waiting, or,
  one at a time, when it has waited for `BACKGROUND_SECONDS`.
- `secure_delete=ON`: what is deleted is overwritten, and `truncate_journal` empties the WAL after keys go.

Leaves out: knowing what the rows mean. A failed commit is final for everyone in it: `StorageFull` when
the disk is full, else `StorageFailed`; nothing is retried.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from vault.catalogue import diagnosis
from vault.catalogue.ledger import Ledger
from vault.catalogue.prepared import TOUCHED
from vault.catalogue.schema import REVISION, metadata
from vault.errors import (
    StorageFailed,
    StorageFull,
    StoreExists,
    StoreMissing,
    VaultError,
)

T = TypeVar("T")

GROUP_LIMIT: Final = 256  # works in one transaction: bounds the wait of the first
BACKGROUND_SECONDS: Final = 0.02  # that a work of the background lets others go first
SLOW: Final = 0.02  # seconds that a loop may be held up by a transaction
SLOW_PAUSE: Final = 1.0
QUICK: Final = 0.002  # seconds of making one ready, below which no other thread is asked to
READERS: Final = 4
PUBLISHERS: Final = 8  # threads that make ready what waits for one transaction
BUSY_MILLISECONDS: Final = 30_000


@dataclass
class Transaction:
    """What a work is given: the writing connection and the ledger, inside one transaction."""

    connection: Connection
    ledger: Ledger


Work = Callable[[Transaction], T]


@dataclass
class _Job:
    work: Callable[[Transaction], Any]
    future: Future[Any]
    ready: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    here: bool = False  # whoever brought it runs it
    since: float = 0.0  # when one of the background began to wait


# Of a statement, and of what is told the driver directly.
_DISK: Final = (OperationalError, sqlite3.OperationalError)
_DATABASE: Final = (DatabaseError, sqlite3.DatabaseError)
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_VERSIONS: Final = "alembic_version"


class Catalogue:
    """An open catalogue. Opened with `Catalogue.open`, made with `Catalogue.create`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = _engine(path, read_only=False)
        self._readers = _engine(path, read_only=True)
        self._connection = self._writer.connect()
        self._at_hand = _engine(path, read_only=True, begins=False)
        self._glance = self._at_hand.connect()
        self._glance_raw: sqlite3.Connection = self._glance.connection.driver_connection  # type: ignore[assignment]
        self._glance_lock = threading.Lock()
        self._raw: sqlite3.Connection = self._connection.connection.driver_connection  # type: ignore[assignment]
        self.ledger = Ledger.load(self._connection)
        self._connection.commit()
        self._touched: set[str] = set()  # tables that the running transaction writes to
        self._versions: Counter[str] = Counter()
        self._connection.info[TOUCHED] = self._touched
        event.listen(self._writer, "before_execute", self._note)
        self._jobs: deque[_Job] = deque()
        self._background: deque[_Job] = deque()
        self._writing = threading.Lock()  # whoever has it runs works
        self._slow_until = 0.0
        self._quick = (
            True  # whether making one ready takes less than waking a thread for it is worth
        )
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one for each job; False: close
        self._publishers = ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="publish")
        self._failed: VaultError | None = None
        self._thread = threading.Thread(target=self._run, name="catalogue-writer", daemon=True)
        self._thread.start()

    @classmethod
    def create(cls, path: Path) -> Catalogue:
        """Make an empty catalogue at `path` (0600) and open it.

        Raises:
            StoreExists: something is there already.
        """
        if path.exists():
            raise StoreExists(f"{path}: expected no catalogue, found one")
        # SQLite gives its journal files the mode of the database.
        path.touch(mode=0o600, exist_ok=False)
        migrate(path, new=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """Open the catalogue at `path`, bringing its schema up to date.

        Raises:
            StoreMissing: there is none.
            VaultError: it is no catalogue, or newer than this software.
        """
        if not path.is_file():
            raise StoreMissing(
                f"{path}: expected a catalogue, found none; `strongroom init` makes one"
            )
        diagnosis.expect_file(path)  # else an empty file would be made a new catalogue
        migrate(path)
        try:
            return cls(path)
        except (sqlite3.DatabaseError, DatabaseError) as error:
            raise diagnosis.unreadable(path, error) from error

    @property
    def failed(self) -> bool:
        """Whether a sync has failed: nothing more is written, and what is on disk is not known."""
        return self._failed is not None

    def version(self, *tables: Table) -> int:
        """A number that grows with every transaction that wrote to one of these tables.

        Whoever keeps what a read told takes the number before the read: as long as it stands, a read would
        tell the same. It counts from the opening of the catalogue.
        """
        return sum(self._versions[table.name] for table in tables)

    def submit(
        self,
        work: Work[T],
        *,
        background: bool = False,
        here: bool = False,
        ready: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> Future[T]:
        """Queue a work; its result arrives once the transaction around it is durable.

        The work runs on the writing thread and must not block on anything but the catalogue. The future's
        callbacks run on that thread, too, and hold up whoever comes next.

        Args:
            background: nobody waits for an answer: others go first.
            here: the caller sees to it that `run_here` follows; else the writing thread is woken.
            ready: what has to be on disk before the work is run; may wait for the disk, briefly. If it
                raises, the work is not run.
            after: what is left to do once the result is out; must not raise.
        """
        job = _Job(work, Future(), ready, after, here)
        if background:
            job.since = time.monotonic()
            self._background.append(job)
        else:
            self._jobs.append(job)
        if not here:
            self._wake.put(True)
        return job.future

    def run_here(self) -> None:
        """Run the one work brought `here`, where that is quick; else leave it to the writing thread.

        For an event loop. It is quick for one work, but not while the writing thread is at work, nor for
        `SLOW_PAUSE` after the disk has taken longer than `SLOW`. While several are recorded the loop has
        others to hear.
        """
        if time.monotonic() < self._slow_until or not self._writing.acquire(blocking=False):
            self._wake.put(True)
            return
        try:
            # Nobody else takes any while this one writes. Others' works may take long.
            if len(self._jobs) != 1 or not self._jobs[0].here:
                return
            began = time.monotonic()
            self._run_batch(_taken(self._jobs, 1))
            ended = time.monotonic()
            if ended - began > SLOW:
                self._slow_until = ended + SLOW_PAUSE
        finally:
            self._writing.release()
            if self._jobs:
                self._wake.put(True)

    def write(self, work: Work[T]) -> T:
        """`submit` and wait."""
        return self.submit(work).result()

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run a reading work on a read-only connection (any thread; sees what is committed)."""
        try:
            with self._readers.connect() as connection, connection.begin():
                return work(connection)
        except _DATABASE as error:
            raise _translated(error, self.path) from error

    def glance(self, work: Callable[[Connection], T]) -> T:
        """`read` for a few rows that an index finds: on this thread, on a connection that is kept.

        For a thread that others wait for. Whatever could take longer than a few hundred microseconds
        belongs to `read`.
        """
        try:
            with self._glance_lock:
                self._glance_raw.execute("BEGIN")  # one state for all that it reads
                try:
                    return work(self._glance)
                finally:
                    self._glance_raw.rollback()
        except _DATABASE as error:
            raise _translated(error, self.path) from error

    def truncate_journal(self) -> bool:
        """Empty the write-ahead log, so that overwritten content leaves the disk's files.

        Returns:
            Whether it was emptied; False if a reader was in the way (try again).
        """

        def work() -> bool:
            self._readers.dispose()
            # Briefly: writers wait behind this. The caller tries again.
            self._raw.execute("PRAGMA busy_timeout=500")
            try:
                busy, _, _ = self._raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._raw.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
            return not busy

        return self._between_transactions(work)

    def close(self) -> None:
        """Finish what is queued and close."""
        self._wake.put(False)
        self._thread.join()
        self._publishers.shutdown()
        # The writing connection last: the last to close folds the journal into the file and removes it.
        self._glance.close()
        self._at_hand.dispose()
        self._readers.dispose()
        self._connection.close()
        self._writer.dispose()

    # ── the writing thread ──

    def _note(self, _connection: Connection, statement: Any, *_: Any) -> None:
        if getattr(statement, "is_dml", False):
            self._touched.add(statement.table.name)

    def _between_transactions(self, work: Callable[[], T]) -> T:
        """Run `work` on the writing thread with no transaction open."""
        job = _Job(_Outside(work), Future())
        self._jobs.append(job)
        self._wake.put(True)
        result: T = job.future.result()
        return result

    def _run(self) -> None:
        going = True
        while going:
            going = self._wake.get()
            while True:
                # What else has woken us is taken along: a wake-up without a job does no harm.
                try:
                    while True:
                        going = self._wake.get_nowait() and going
                except queue.Empty:
                    pass
                with self._writing:
                    batch = self._next_batch()
                    if not batch:
                        break
                    self._run_batch(batch)

    def _next_batch(self) -> list[_Job]:
        """What is run next: those for whom somebody waits, else the background."""
        batch = _taken(self._jobs, GROUP_LIMIT)
        overdue = time.monotonic() - BACKGROUND_SECONDS
        if not batch:
            return _taken(self._background, GROUP_LIMIT)
        if self._background and self._background[0].since < overdue:
            longest = self._background.popleft()
            longest.since = 0.0  # from here on it is everybody's equal
            batch.append(longest)
        return batch

    def _run_batch(self, batch: list[_Job]) -> None:
        inside: list[_Job] = []
        for job in batch:
            # From here on nobody can cancel it; who did before wants nothing done.
            if job.future.running():
                inside.append(job)  # it was put back
            elif not job.future.set_running_or_notify_cancel():
                continue
            elif isinstance(job.work, _Outside):
                self._commit_group(self._made_ready(inside))
                inside = []
                _resolve(job, job.work.call)
            else:
                inside.append(job)
        self._commit_group(self._made_ready(inside))

    def _made_ready(self, jobs: list[_Job]) -> list[_Job]:
        """Those of `jobs` whose `ready` has succeeded; several at once share the disk's syncs."""
        waiting = [job for job in jobs if job.ready is not None]
        if not waiting:
            return jobs
        calls = [job.ready for job in waiting]
        began = time.monotonic()
        if len(calls) == 1 or self._quick:
            failures = [_failure(call) for call in calls]
            took = (time.monotonic() - began) / len(calls)
        else:
            # On a slow disk those that sync at the same time wait for it once.
            failures = list(self._publishers.map(_failure, calls))
            took = time.monotonic() - began
        self._quick = took < QUICK
        failed: set[int] = set()
        for job, failure in zip(waiting, failures, strict=True):
            job.ready = None
            if failure is not None:
                failed.add(id(job))
                job.future.set_exception(failure)
        return [job for job in jobs if id(job) not in failed]

    def _commit_group(self, jobs: list[_Job]) -> None:
        """One transaction around all `jobs`; COMMIT POINT of everything they record."""
        if not jobs:
            return
        if self._failed is not None:
            for job in jobs:
                job.future.set_exception(self._failed)
            return
        before = self.ledger.mark()
        done: list[tuple[_Job, Any]] = []
        self._touched.clear()
        try:
            with self._connection.begin():
                transaction = Transaction(self._connection, self.ledger)
                if len(jobs) == 1:
                    # Nobody else's changes are to be kept if it fails: the transaction is its savepoint.
                    done.append((jobs[0], jobs[0].work(transaction)))
                else:
                    self._run_each(jobs, transaction, done)
                # COMMIT POINT: leaving this block commits and syncs the write-ahead log.
        except BaseException as error:  # noqa: BLE001  reported to every submitter
            self.ledger.reset(before)
            if len(jobs) == 1 and not done and not _is_disk(error):
                jobs[0].future.set_exception(error)  # its own, not the catalogue's
                return
            failure = _translated(error, self.path)
            if isinstance(failure, StorageFailed):
                self._failed = failure  # a failed sync is final: restart, and recover from disk
            for job in jobs:
                if not job.future.done():
                    job.future.set_exception(failure)
            return
        self._versions.update(self._touched)
        for job, result in done:
            job.future.set_result(result)
        for job, _ in done:
            _failure(job.after)  # whoever gave it says what went wrong with it

    def _run_each(
        self, jobs: list[_Job], transaction: Transaction, done: list[tuple[_Job, Any]]
    ) -> None:
        """Run each job in a savepoint: one that fails takes back its own changes and nobody else's."""
        jobs.sort(key=lambda job: job.since > 0)
        for place, job in enumerate(jobs):
            if job.since and done and self._jobs:
                # Somebody waits: the rest of the background goes back, in its order.
                self._background.extendleft(reversed(jobs[place:]))
                self._wake.put(True)
                del jobs[place:]
                return
            mark = self.ledger.mark()
            self._raw.execute("SAVEPOINT job")
            try:
                result = job.work(transaction)
            except BaseException as error:
                if _is_disk(error):
                    raise  # not the work: nobody in this transaction can go on
                self._raw.execute("ROLLBACK TO job")
                self._raw.execute("RELEASE job")
                self.ledger.reset(mark)
                job.future.set_exception(error)
            else:
                self._raw.execute("RELEASE job")
                done.append((job, result))


def _taken(jobs: deque[_Job], most: int) -> list[_Job]:
    """The first of these, at most so many, taken off."""
    taken: list[_Job] = []
    while jobs and len(taken) < most:
        taken.append(jobs.popleft())
    return taken


def _failure(call: Callable[[], None] | None) -> BaseException | None:
    """What a call raised, or None."""
    try:
        if call is not None:
            call()
    except BaseException as error:  # noqa: BLE001  it belongs to whoever submitted it
        return error
    return None


def _is_disk(error: BaseException) -> bool:
    """Whether it is the file or its disk that failed, and not what a work wanted of them."""
    if isinstance(error, _DISK):
        return True
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


class _Outside:
    """Marks a work that runs between transactions."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def __call__(self, _transaction: Transaction) -> Any:
        raise RuntimeError("catalogue: a work between transactions was run inside one")


def _resolve(job: _Job, call: Callable[[], Any]) -> None:
    try:
        job.future.set_result(call())
    except BaseException as error:  # noqa: BLE001  it belongs to whoever submitted it
        job.future.set_exception(error)


def _translated(error: BaseException, path: Path) -> VaultError:
    """SQLite's errors as this package's."""
    if isinstance(error, VaultError):
        return error
    original = getattr(error, "orig", error)
    code = getattr(original, "sqlite_errorcode", None)
    name = getattr(original, "sqlite_errorname", type(original).__name__)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull(f"{path}: expected room for a transaction, found the disk full")
    if code is not None and code & 0xFF in _DAMAGED:
        return diagnosis.unreadable(path, error)
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
        return StorageFailed(f"{path}: expected a durable transaction, found {name}")
    return VaultError(f"{path}: expected a transaction to commit, found {name}")


def _engine(path: Path, *, read_only: bool, begins: bool = True) -> Engine:
    """An engine on one connection (writer) or a small pool of read-only ones.

    Args:
        begins: whether a transaction is begun with the first statement; else the caller does.
    """

    def connect() -> sqlite3.Connection:
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,  # transactions are begun and ended by us alone
            check_same_thread=False,
            timeout=BUSY_MILLISECONDS / 1000,
        )
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA foreign_keys=ON")
        return connection

    if read_only:
        engine = create_engine(
            "sqlite://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=READERS,
            max_overflow=READERS,
        )
    else:
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    if not begins:
        return engine

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.connection.driver_connection.execute(begin)  # type: ignore[union-attr]

    return engine


def migrate(path: Path, *, new: bool = False) -> None:
    """Bring the schema at `path` to this software's version.

    Args:
        new: the file is empty and becomes a catalogue; else one that is none stays as it is.

    Raises:
        VaultError: the file is no catalogue, lacks a part of it, or was written by newer software.
    """
    engine = _engine(path, read_only=False)
    try:
        with engine.connect() as connection:
            if new or not _is_current(connection, path):
                _upgrade(connection)
                connection.commit()
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise diagnosis.unreadable(path, error) from error
    except VaultError:
        raise
    except Exception as error:
        raise VaultError(
            f"{path}: expected a catalogue of this or an earlier version, found one of a version that this"
            " software does not know: install the one that wrote it"
        ) from error
    finally:
        engine.dispose()


def _is_current(connection: Connection, path: Path) -> bool:
    """Whether the schema is this software's; the usual case, which needs no migrations loaded.

    Raises:
        IntegrityError: it is not one of ours, or a part of it is gone.
    """
    there = set(
        connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars()
    )
    if there.isdisjoint(metadata.tables):
        raise diagnosis.damaged(path, "a database without any of its tables")
    if _VERSIONS not in there:
        raise diagnosis.lacks(path, "table", {_VERSIONS})
    versions = list(connection.exec_driver_sql(f"SELECT version_num FROM {_VERSIONS}").scalars())  # noqa: S608  a constant
    if not versions:
        raise diagnosis.damaged(path, "it without its version")
    if versions != [REVISION]:
        return False
    if lacking := set(metadata.tables) - there:
        raise diagnosis.lacks(path, "table", lacking)
    return True


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    with resources.as_file(resources.files("vault.catalogue") / "migrations") as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
