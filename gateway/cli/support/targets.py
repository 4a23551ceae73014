"""Acts for which something is carried: to and from backup targets.

Promises: a courier of the running gateway carries; where no core runs, the act is done here, under the
store's lock, and this process carries.
Leaves out: how a place is spoken to (`gateway.courier.places`).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway.cli.support.connection import at_console
from gateway.cli.support.signing import Person
from gateway.config import Config
from gateway.wire.messages import AdminAnswer

if TYPE_CHECKING:
    from gateway.core.outbound.outbound import Outbound


def act(
    config: Config, name: str, arguments: dict[str, Any], person: Person | None = None
) -> AdminAnswer:
    """Perform such an act (raises as `gateway.cli.support.connection.ask`)."""

    # Imported when it is needed: the courier brings the clients of network places with it.
    def beside(outbound: Outbound, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        from gateway.courier import transfers as hands

        return hands.beside(outbound.transfers, config, work)

    with at_console(config, beside) as console:
        return console.act(name, arguments, person)
