"""A connection of the resolver: one question at a time, and its answer.

Promises: it hears questions and nothing else; a question that a lost connection had is answered "later".
Leaves out: what is asked (`gateway.core.questions`).
"""

from __future__ import annotations

from typing import Any

from gateway.core.core import Core
from gateway.core.questions import Questions
from gateway.core.sessions.base import Answer, Session
from gateway.errors import WireError
from gateway.wire.messages import ClaimQuestion, NoWork, QuestionAnswer


class ResolverSession(Session):
    """A connection of the resolver."""

    def __init__(self, core: Core, questions: Questions) -> None:
        super().__init__(core)
        self._questions = questions
        self._question: int | None = None

    async def handle(self, request: Any) -> Answer:
        match request:
            case ClaimQuestion():
                pass
            case QuestionAnswer():
                if request.question_id != self._question:
                    raise WireError("resolver: expected an answer to its question, found another")
                self._question = None
                self._questions.answer(request)
            case _:
                raise WireError(
                    f"resolver: expected a request of the resolver, found {type(request).__name__}"
                )
        found = await self._questions.claim()
        if found is None:
            return NoWork(), None
        self._question = found.question_id
        return found, None

    async def close(self) -> None:
        await super().close()
        if self._question is not None:
            self._questions.lost(self._question, seen=not self.undelivered)
