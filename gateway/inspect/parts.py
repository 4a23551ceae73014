"""What taking a container apart gives, and what its parts together may cost.

Promises: of several reasons why something could not be judged the gravest stays; the limits on number and
bytes hold over all parts of one container, whatever it is. Leaves out: the containers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.inspect.document import (
    Examination,
    Limits,
    PartSink,
    Reason,
    Unreadable,
    error_code,
    graver,
)

NAME: Final = "unpack"
_IGNORED_LENGTH: Final = 300


@dataclass(slots=True)
class Unpacked:
    """What taking a container apart gave.

    `text` is a message's own words; `facts` its headers, bounded in length; `links` where it
    leads to; `ignored` what a rule keeps from becoming a document.
    """

    result: Examination = field(default_factory=lambda: Examination(NAME))
    parts: list[str] = field(default_factory=list)
    text: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    suggested_name: str = ""
    links: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def ignore(self, name: str, rule: str) -> None:
        """Note what is there and becomes no document, with the rule that says so ("rule: name")."""
        self.ignored.append(f"{rule}: {name}"[:_IGNORED_LENGTH])

    def trouble(self, reason: Reason, code: str) -> None:
        """Note why something could not be judged; the gravest reason stays."""
        self.result.mark(code)
        self.result.unreadable = graver(self.result.unreadable, reason)


class Budget:
    """What all parts of one container together may still take."""

    def __init__(self, limits: Limits) -> None:
        self._bytes = limits.max_expand_bytes
        self._parts = limits.max_parts

    def open(self) -> None:
        """Count a part (raises Unreadable beyond the limit)."""
        self._parts -= 1
        if self._parts < 0:
            raise Unreadable("over_limit", "parts: expected no more than the limit, found more")

    def count(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a part's bytes on and count them (raises Unreadable beyond the limit)."""
        for chunk in chunks:
            self._bytes -= len(chunk)
            if self._bytes < 0:
                raise Unreadable("over_limit", "parts: expected fewer bytes expanded, found more")
            yield chunk


def take_out(
    unpacked: Unpacked, sink: PartSink, budget: Budget, name: str, content: bytes, container: str
) -> bool:
    """Make a part of bytes that were taken out of a container; whether there may be more.

    Args:
        container: what the codes of trouble begin with.
    """
    try:
        budget.open()
        unpacked.parts.append(sink.add(name, budget.count([content])))
    except Unreadable as error:
        unpacked.trouble(error.reason, f"{container}.part_{error.reason}")
    except Exception as error:  # noqa: BLE001  what was committed before must be reported
        unpacked.result.fail(error_code(f"{container}.part", error))
    else:
        return True
    return False
