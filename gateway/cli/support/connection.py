"""Talking to the core: over its admin socket, or, where none runs, with the store opened in this process.

Promises: an act gives the same answer either way. Without a core the store is opened under its own lock,
so a core that is just starting is never raced, and only by the user who owns it, so that no file of the
store changes hands.
Leaves out: what is done with the answer (`command`).

Rules:
    - Nobody listening means no core. Anything else (no permission, say) is an error, and never a reason to
      open the store.
    - A signed act asks for the connection's challenge first (`gateway.wire.signed_act`).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from gateway.cli.support.signing import Person
from gateway.config import Config, LogSection, load
from gateway.errors import ConfigurationError, Disconnected, WireError
from gateway.wire.channel import Channel
from gateway.wire.messages import AdminAnswer, AdminCall, Challenge, ChallengeAnswer, Readable
from gateway.wire.signed_act import NAMESPACE, act_statement
from vault.errors import KeyUnavailable

if TYPE_CHECKING:
    from gateway.core.outbound.outbound import Outbound

_NOBODY: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR)
_Call: TypeAlias = Callable[[Challenge | AdminCall], tuple[Any, list[int]]]
Beside: TypeAlias = Callable[["Outbound", Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]
"""How an act is run where no core runs: with what else has to go on beside it in this process."""


class Console:
    """The console of an installation: it performs acts. One at a time; use it within `at_console`."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def act(
        self, act: str, arguments: dict[str, Any] | None = None, person: Person | None = None
    ) -> AdminAnswer:
        """Perform an act.

        Args:
            act, arguments: as `gateway.core.admin.register.ACTS` has them.
            person: who signs it; None: the operating system's user.

        Raises:
            Refusal: it is refused. Disconnected, WireError: the core went away.
        """
        reply, descriptors = self._send(act, arguments or {}, person)
        _close(descriptors)
        if not isinstance(reply, AdminAnswer):
            raise WireError(f"act {act}: expected an answer, found {type(reply).__name__}")
        return reply

    def open(
        self, act: str, arguments: dict[str, Any], person: Person | None
    ) -> tuple[Readable, int]:
        """Perform an act that opens a document; the descriptor is the caller's (raises as `act`)."""
        reply, descriptors = self._send(act, arguments, person)
        if not isinstance(reply, Readable) or len(descriptors) != 1:
            _close(descriptors)
            raise WireError(f"act {act}: expected an open document, found {type(reply).__name__}")
        return reply, descriptors[0]

    def _send(
        self, act: str, arguments: dict[str, Any], person: Person | None
    ) -> tuple[Any, list[int]]:
        if person is None:
            return self._call(AdminCall(act, arguments))
        challenge, _ = self._call(Challenge())
        if not isinstance(challenge, ChallengeAnswer):
            raise WireError(f"act {act}: expected a challenge, found {type(challenge).__name__}")
        statement = act_statement(act, arguments, person.name, challenge.nonce)
        signature = person.sign(statement, NAMESPACE)
        return self._call(AdminCall(act, arguments, person.name, statement, signature))


def ask(
    config_path: Path | None,
    act: str,
    arguments: dict[str, Any] | None = None,
    person: Person | None = None,
) -> AdminAnswer:
    """Perform one act of the installation that a configuration names.

    Raises:
        ConfigurationError, VaultError: the installation can't be used. Refusal: as `Console.act`.
    """
    with at_console(load(config_path)) as console:
        return console.act(act, arguments, person)


@contextmanager
def at_console(config: Config, beside: Beside | None = None) -> Iterator[Console]:
    """A console for some acts (raises as `ask`)."""
    channel = connect(config)
    if channel is not None:
        try:
            yield Console(channel.call)
        finally:
            channel.close()
        return
    with _own_core(config, beside) as call:
        yield Console(call)


def connect(config: Config) -> Channel | None:
    """A connection to the core; None if none runs (raises Disconnected for anything else)."""
    try:
        return Channel.connect(config.socket("admin"))
    except Disconnected as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOBODY:
            return None
        raise


def expect_owner(config: Config) -> None:
    """Only the store's owner opens it here, so that no file changes hands (raises ConfigurationError)."""
    catalogue = config.store_path / "catalogue.sqlite3"
    if catalogue.is_file() and catalogue.stat().st_uid != os.geteuid():
        raise ConfigurationError(
            f"{config.store_path}: expected to be opened by its owner (user"
            f" {catalogue.stat().st_uid}), found user {os.geteuid()}; start the core, or become that user"
        )


@contextmanager
def _own_core(config: Config, beside: Beside | None) -> Iterator[_Call]:
    """The console in this process, under the store's lock."""
    from gateway.core.opening import open_core
    from gateway.core.outbound import keyring_copies
    from gateway.core.sessions.admin import AdminSession
    from gateway.core.wings import Wings
    from gateway.process import service

    expect_owner(config)
    # The core's events are for its log; here only what goes wrong is worth a line.
    service.configure_logging(
        msgspec.structs.replace(config, log=LogSection(level="error")), "strongroom"
    )
    service.forbid_core_dumps()
    try:
        core = open_core(config)
    except KeyUnavailable as error:
        raise ConfigurationError(str(error)) from error
    wings = Wings.around(core)
    try:
        keyring_copies.prepare(core)
        with asyncio.Runner() as runner:
            session = AdminSession(wings, None)
            session.attach((os.getpid(), os.getuid(), os.getgid()))

            def call(request: Challenge | AdminCall) -> tuple[Any, list[int]]:
                handling = session.handle(request)
                reply, descriptor = runner.run(
                    handling if beside is None else beside(wings.outbound, handling)
                )
                if isinstance(reply, AdminAnswer):
                    # As over the socket: plain data, whatever the act returned.
                    reply = msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=AdminAnswer)
                return reply, [] if descriptor is None else [descriptor]

            yield call
    finally:
        wings.close()
        core.close()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
