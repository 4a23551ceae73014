"""The register of administrative acts: each act enters itself here, beside the function that does it.

Promises: an act has one name, one function, one type of arguments (taken from the function) and the roles
that may do it; entering a name twice is refused when the program starts. `docs/acts.md` lists them all, and a
test holds that list against this one.
Leaves out: who is asking (`sessions.admin`), and what an act does.

Usage:
    >>> @act("hold.place", READERS)
    ... async def place(context: Context, arguments: Place) -> dict[str, Any]: ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_type_hints

import msgspec

CONSOLE: Final = "console"
STAFF: Final = ("accountant", "officer", "archivist", "auditor", "admin")

ADMIN: Final = (CONSOLE, "admin")
READERS: Final = (CONSOLE, *STAFF)
OFFICER: Final = ("officer",)


@dataclass(frozen=True)
class Act:
    """One act: what does it, the type of its arguments, and who may; `suspended`: one who is, too."""

    run: Callable[..., Awaitable[Any]]
    arguments: type[Any]
    roles: tuple[str, ...]
    suspended: bool = False


ACTS: Final[dict[str, Act]] = {}
"""Every act by its name; whole once `gateway.core.admin.acts` is imported."""

Run = TypeVar("Run", bound=Callable[..., Awaitable[Any]])


def act(name: str, roles: tuple[str, ...], *, suspended: bool = False) -> Callable[[Run], Run]:
    """Enter a function of (context, arguments) as an act.

    Args:
        roles: who may do it; `CONSOLE` is the operating system's user at the admin socket.
        suspended: an account that is disabled or expired may do it, too.
    """

    def enter(run: Run) -> Run:
        if name in ACTS:
            raise RuntimeError(f"act {name}: it is entered twice")
        ACTS[name] = Act(run, get_type_hints(run)["arguments"], roles, suspended)
        return run

    return enter


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments."""


class ByName(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that name an account or a place."""

    name: str


class ById(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that name a batch, a certificate or a request by its id."""

    id: str


class OfClient(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that name a client."""

    slug: str


class OfDocument(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that name a document."""

    document: str
