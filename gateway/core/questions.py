"""Questions to the resolver: what domains publish about their mail. The core has no network.

Promises: every question ends: with an answer, or with `Later`: the resolver could not find out, none
claimed it within `PATIENCE`, or the one that had it is gone. At most `MOST` wait at once, so that a flood of
mail keeps its questions to itself.

Leaves out: what follows from an answer (`gateway.core.intake.senders`), asking the network
(`gateway.resolver`), and trying again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.waiting import wait_for_work
from gateway.errors import GatewayError
from gateway.wire.messages import Question, QuestionAnswer
from gateway.wire.messages.resolver import DOMAIN

PATIENCE: Final = 15.0  # seconds until a question is given up
CLAIM_WAIT: Final = 20.0  # seconds a resolver waits for a question
MOST: Final = 1000


class Later(GatewayError):
    """It could not be found out now."""


@dataclass
class _Asked:
    question: Question
    answer: asyncio.Future[QuestionAnswer]


class Questions:
    """What is to be found out, and who waits for it. Belongs to one event loop."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._next = 1
        self._waiting: dict[int, _Asked] = {}
        self._claimed: dict[int, _Asked] = {}
        self._work = asyncio.Event()

    async def texts(self, name: str) -> list[str]:
        """The texts that a name has in the DNS, none where there is no such name (raises Later)."""
        return (await self._ask(kind="TXT", name=name)).texts

    async def spf(self, address: str, sender: str, helo: str) -> QuestionAnswer:
        """Whether a host may send for an envelope sender (raises Later)."""
        return await self._ask(kind="SPF", name=sender, address=address, helo=helo)

    async def _ask(self, **what: Any) -> QuestionAnswer:
        if len(self._waiting) + len(self._claimed) >= MOST:
            raise Later(f"resolver: expected at most {MOST} questions at once, found more")
        if what["kind"] == "TXT" and len(what["name"]) > DOMAIN:
            return QuestionAnswer(0)  # no name
        number, self._next = self._next, self._next + 1
        asked = _Asked(Question(number, **what), asyncio.get_running_loop().create_future())
        self._waiting[number] = asked
        self._work.set()
        try:
            async with asyncio.timeout(self._patience):
                answer = await asked.answer
        except TimeoutError as error:
            raise Later(
                f"resolver: expected an answer within {self._patience:g} s, found none"
            ) from error
        finally:
            self._waiting.pop(number, None)
            self._claimed.pop(number, None)
        if answer.later:
            # Of SPF the name is a person's address.
            raise Later(f"resolver: expected an answer ({what['kind']}), found none to be had")
        return answer

    async def claim(self) -> Question | None:
        """The next question for a resolver; None after `CLAIM_WAIT` seconds without one."""

        async def find() -> Question | None:
            if not self._waiting:
                return None
            number = next(iter(self._waiting))
            asked = self._waiting.pop(number)
            self._claimed[number] = asked
            if self._waiting:
                self._work.set()  # for the others who wait
            return asked.question

        return await wait_for_work(self._work, find, CLAIM_WAIT)

    def answer(self, answer: QuestionAnswer) -> None:
        """Take an answer; one that nobody waits for any more is dropped."""
        asked = self._claimed.pop(answer.question_id, None)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(answer)

    def lost(self, question_id: int, *, seen: bool) -> None:
        """The resolver that had claimed it is gone; `seen`: it had got it."""
        if seen:
            self.answer(QuestionAnswer(question_id, later=True))
        elif (asked := self._claimed.pop(question_id, None)) is not None:
            self._waiting[question_id] = asked
            self._work.set()
