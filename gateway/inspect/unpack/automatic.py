"""Whether a program wrote a message by itself: nobody answers such a one (RFC 3834, section 2).

Promises: a word for the first header that says so, or `NO`. A header that is there and says nothing known
counts as saying so: an answer too few does no harm, a loop does. Leaves out who is answered (the core).
"""

from __future__ import annotations

import email.message
from typing import Final

NO: Final = "no"
_LISTS: Final = (
    "list-id",
    "list-unsubscribe",
    "list-post",
    "feedback-id",
    "x-loop",
    "x-autoreply",
    "x-autorespond",
    "x-failed-recipients",
)
_BULK: Final = frozenset({"bulk", "list", "junk", "auto_reply"})


def automatic(message: email.message.Message) -> str:
    """The header that says so, in lower case; `NO`: none does."""
    headers = [(name.lower(), str(value).strip().lower()) for name, value in message.raw_items()]
    for name, value in headers:
        word = value.partition(";")[0].partition("(")[0].strip()
        if name == "auto-submitted" and word != "no":
            return name
        if name == "precedence" and word in _BULK:
            return name
        if name == "x-auto-response-suppress" and word != "none":
            return name
        if name in _LISTS:
            return name
    kind = message.get_content_type()
    return "content-type" if kind in {"multipart/report", "message/delivery-status"} else NO
