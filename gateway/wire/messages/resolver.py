"""What the resolver may ask, and what it answers.

Promises: questions about what domains publish, claimed one at a time, and the answers; each text and list
has a bound. Leaves out: how the network is asked (`gateway.resolver`), and what follows from an answer
(`gateway.core.intake.senders`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from gateway.wire.messages.common import Message

DOMAIN: Final = 253  # characters (RFC 1035, section 2.3.4)
TEXT: Final = 4096  # of a TXT record: a DKIM key of 4096 bits takes 800
TEXTS: Final = 32


class ClaimQuestion(Message, frozen=True):
    """Asks for a question; answered like `Claim`."""


class Question(Message, frozen=True):
    """Something to find out.

    `TXT`: the texts that `name` has. `SPF`: whether the host at `address`, which called itself `helo`, may
    send for the envelope sender `name` (RFC 7208).
    """

    question_id: int
    kind: Literal["TXT", "SPF"]
    name: str
    address: str = ""
    helo: str = ""


SpfResult = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]


class QuestionAnswer(Message, frozen=True):
    """What was found; asks for the next question, too.

    `later`: it could not be found out now. `texts` for TXT, none where there is no such name. `spf` and
    `domain`, which it is about, for SPF.
    """

    question_id: int
    later: bool = False
    texts: Annotated[list[Annotated[str, Meta(max_length=TEXT)]], Meta(max_length=TEXTS)] = field(
        default_factory=list
    )
    spf: SpfResult = "none"
    domain: Annotated[str, Meta(max_length=DOMAIN)] = ""


ResolverRequest = ClaimQuestion | QuestionAnswer
