"""Who may send for a client, and what each has to show.

Promises: whether an envelope sender is one of a client's, and which proofs its entry takes, follows from
the client's profile and nothing else. An entry is an address, `@domain` for everyone there, or `*` for
anybody who knows a tag. Of several that fit, the closest decides: an address before its domain.

Leaves out: finding out whether a proof holds (`alignment`), and the answer to a stranger (`recipients`).

>>> parse_entry("Boss@Acme.example=dkim,spf")
('boss@acme.example', ('dkim', 'spf'))
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.config.sections import ProofWord
from gateway.errors import Refusal
from vault.catalogue.states import Proof

ANYBODY: Final = "*"
WORDS: Final[tuple[ProofWord, ...]] = ("submission", "dkim", "spf", "tag", "nothing")
PUBLISHED: Final = frozenset({"dkim", "spf"})
"""Proofs that what a domain publishes decides, after the message was read."""
MOST_TAGS: Final = 100
_TAG: Final = 10  # random bytes, 16 letters: nobody guesses one over SMTP
_ENTRY: Final = re.compile(r"[^\s@=,]{0,64}@[^\s@=,]{1,253}")


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret part of an address. `digest`: SHA-256 of it, hex; what it is was shown once."""

    label: str
    digest: str
    added_at: str


class ClientProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is personal about a client, sealed under its keyring.

    `emails`: entries as above. `proofs`: by entry what it takes; one that is not there takes what the
    configuration says (`[senders] proof`). `unproven`: what becomes of mail that shows none of it; ""
    likewise. `notice_to`: where receipts go for what it sends by SFTP; "": nowhere.
    """

    name: str
    emails: list[str] = msgspec.field(default_factory=list)
    language: str = "zh"
    proofs: dict[str, list[ProofWord]] = msgspec.field(default_factory=dict)
    unproven: str = ""
    tags: list[Tag] = msgspec.field(default_factory=list)
    notice_to: str = ""


def parse_entry(text: str) -> tuple[str, tuple[ProofWord, ...]]:
    """An entry and the proofs it takes, none where the configuration decides (raises Refusal)."""
    entry, equals, words = text.strip().lower().partition("=")
    if entry != ANYBODY and not _ENTRY.fullmatch(entry):
        raise Refusal("invalid", f"email: expected an address, @domain or *, found {entry!r}")
    proofs = tuple(word for word in WORDS if word in words.split(","))
    if equals and (not proofs or len(proofs) != len(set(words.split(",")))):
        raise Refusal(
            "invalid", f"email {entry}: expected proofs of {', '.join(WORDS)}; found {words!r}"
        )
    if entry == ANYBODY and proofs != ("tag",):
        raise Refusal("invalid", "email *: expected *=tag, as anybody else could be anybody")
    return entry, proofs


def entries(texts: Sequence[str]) -> tuple[list[str], dict[str, list[ProofWord]]]:
    """`emails` and `proofs` of a profile from entries as people write them (raises Refusal)."""
    parsed = dict(parse_entry(text) for text in texts)
    return list(parsed), {entry: list(proofs) for entry, proofs in parsed.items() if proofs}


def spelt(profile: ClientProfile) -> list[str]:
    """The entries as people write them."""
    return [
        f"{entry}={','.join(profile.proofs[entry])}" if entry in profile.proofs else entry
        for entry in profile.emails
    ]


def taken_from(
    profile: ClientProfile, address: str, default: Sequence[ProofWord]
) -> frozenset[ProofWord] | None:
    """The proofs that a client takes of an address it knows; None: it does not know the address."""
    address = address.lower()
    _, at, domain = address.rpartition("@")
    known = {entry.lower(): entry for entry in profile.emails}
    for entry in (address, f"@{domain}"):
        if at and entry in known:
            return frozenset(profile.proofs.get(known[entry], default))
    return None


def asks(profile: ClientProfile, default: Sequence[ProofWord]) -> bool:
    """Whether any address of a client has to show something."""
    return any(
        "nothing" not in profile.proofs.get(entry, default)
        for entry in profile.emails
        if entry != ANYBODY
    )


def shown(
    profile: ClientProfile, sender: str, tag: str, default: Sequence[ProofWord]
) -> Proof | None:
    """What is known of a message before it has come; None: the client takes nothing from there.

    Args:
        sender: the envelope's.
        tag: what stands behind the `+` of the address it is sent to.

    Returns:
        `WAITING` where what the message shows has to be looked at, `FAILED` where nothing in it can prove it.
    """
    known = _knows(profile, tag)
    taken = taken_from(profile, sender, default)
    if taken is None:
        return Proof.TAG if known and ANYBODY in profile.emails else None
    if known and "tag" in taken:
        return Proof.TAG
    if "nothing" in taken:
        # From is what people see: an address that shows nothing must not write in the name of one that has
        # to.
        return Proof.WAITING if asks(profile, default) else Proof.NONE
    return Proof.WAITING if taken & PUBLISHED else Proof.FAILED


def new_tag(label: str, at: str) -> tuple[str, Tag]:
    """A new secret part of an address, and what is kept of it."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    token = "".join(secrets.choice(alphabet) for _ in range(_TAG * 8 // 5))
    return token, Tag(label, _digest(token), at)


def _knows(profile: ClientProfile, tag: str) -> bool:
    return bool(tag) and _digest(tag.lower()) in {each.digest for each in profile.tags}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
