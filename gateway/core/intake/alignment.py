"""Whether a message comes from whom its From field names: alignment (DMARC) of what it shows.

Promises: `judge` is a function of a report on the message, what SPF said, and what the author's domain
publishes; it says what proves the author, or why nothing does. What could not be found out is never taken
for a "no", nor for a "yes".

Leaves out: reading a message (`gateway.inspect.prove`), asking the network (`gateway.core.questions`), and
whether the author is one of a client's (`senders`).

Rules:
1. Domains are aligned as RFC 9989 has it (DMARC): the domain that signed, or that the host may send for, is
   the author's or has the same organizational domain, found by walking up the DNS tree; `adkim` and `aspf`
   say whether it has to be the very same. Where a domain publishes no policy, only the very same counts.
2. A chain of seals (ARC) counts if every domain in it is one of the configuration's. Then what the first of
   them had found counts as if it had been found here.
3. What the configured host has found counts alike, and its own address is not judged by SPF. A mere
   `dmarc=pass` may stem from either proof, so it counts where both are taken.
4. Strangers' keys are not asked for: a signature of a domain that is not aligned, or a seal of one that is
   not believed, proves nothing whatever its key, and its domain could keep a message waiting for ever, and
   the resolver busy.

Sources: RFC 9989 (DMARC; its policy records are read by the library `dmarc`), RFC 8617, RFC 8601.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

import dmarc

from gateway.core.questions import Later
from gateway.wire.messages import MailReport, MethodResult, QuestionAnswer
from vault.catalogue.states import Proof

_PSD: Final = re.compile(
    r";\s*psd\s*=\s*([ynu])\s*(?:;|\Z)", re.IGNORECASE
)  # the library leaves it out
WALK: Final = 8  # questions on the way up (RFC 9989, section 4.10)


class Texts(Protocol):
    """Asks for the texts of a name (raises `questions.Later`)."""

    async def __call__(self, name: str, /) -> list[str]: ...


@dataclass(frozen=True)
class Judged:
    """What was found. `later`: something could not be found out that might prove it. `said`: for a person."""

    proof: Proof
    said: str
    later: bool = False


@dataclass(frozen=True)
class Evidence:
    """All that is known of a message. `spf` None: not asked, or not to be had now (`spf_later`)."""

    report: MailReport
    spf: QuestionAnswer | None = None
    spf_later: bool = False
    upstream: bool = False  # it came from the configured host
    sealers: Collection[str] = ()  # that are believed


@dataclass
class Tree:
    """What the domains above one publish, and the organizational domain it has by that."""

    domain: str
    records: dict[str, str] = field(default_factory=dict)

    @property
    def organization(self) -> str:
        """RFC 9989, section 4.10.2."""
        for name in sorted(self.records, key=lambda each: each.count("."), reverse=True):
            said = _PSD.search(self.records[name])
            psd = said[1].lower() if said else "u"
            if psd == "n":
                return name
            if psd == "y" and name != self.domain:
                return _below(name, self.domain)
        # The top of the tree organizes nobody, whatever it publishes.
        names = [name for name in self.records if "." in name]
        return min(names, key=lambda each: each.count("."), default=self.domain)

    @property
    def policy(self) -> dmarc.Policy | None:
        """The policy that holds for the domain: its own, else its organization's (section 4.10.1)."""
        for name in (self.domain, self.organization):
            if name in self.records:
                return _parsed(self.records[name], self.domain)
        return None


async def walk(domain: str, texts: Texts) -> Tree:
    """Ask up the tree from a domain (raises `questions.Later`)."""
    tree = Tree(domain)
    labels = domain.split(".")
    names = [".".join(labels[start:]) for start in range(len(labels))]
    if len(names) > WALK:
        names = [names[0], *names[-(WALK - 1) :]]
    for name in names:
        found = [
            text
            for text in await texts(f"_dmarc.{name}")
            if text.replace(" ", "").lower().startswith("v=dmarc1")
        ]
        if len(found) == 1 and _parsed(found[0], domain) is not None:
            tree.records[name] = found[0]
    return tree


async def that_count(
    report: MailReport, taken: Collection[str], sealers: Collection[str], aligned: Alignment
) -> list[str]:
    """Of the names that a report wants, those whose keys could prove something, as far as can be told now."""
    if not report.author or not report.wanted:
        return []
    believed = {each.lower() for each in sealers}
    found = []
    for name in report.wanted:
        signer = name.partition("._domainkey.")[2]
        if signer and (signer in believed or ("dkim" in taken and await aligned.signs(signer))):
            found.append(name)
    return found


async def judge(evidence: Evidence, taken: Collection[str], aligned: Alignment) -> Judged:
    """What proves a message's author.

    Args:
        taken: of `dkim` and `spf` what counts.
        aligned: of the author's domain.
    """
    report = evidence.report
    if not report.author:
        return Judged(Proof.FAILED, f"From: {report.author_fault or 'none'}")
    domain = report.author.rpartition("@")[2]
    if "dkim" in taken:
        for signature in report.signatures:
            if signature.outcome == "pass" and await aligned.signs(signature.domain):
                return Judged(Proof.DKIM, f"dkim: {signature.domain}")
    spf = evidence.spf
    if (
        "spf" in taken
        and not evidence.upstream
        and spf is not None
        and spf.spf == "pass"
        and await aligned.sends(spf.domain)
    ):
        return Judged(Proof.SPF, f"spf: {spf.domain}")
    if evidence.upstream and await _vouched(report.upstream, domain, taken, aligned):
        return Judged(Proof.UPSTREAM, "authentication-results of the configured host")
    believed = {each.lower() for each in evidence.sealers}
    trusted = report.chain == "pass" and set(report.sealers) <= believed
    if trusted and await _vouched(report.sealed, domain, taken, aligned):
        return Judged(Proof.UPSTREAM, f"arc: {', '.join(report.sealers)}")
    later = evidence.spf_later or (report.chain == "later" and set(report.sealers) <= believed)
    if "dkim" in taken and not later:
        for signature in report.signatures:
            later = later or (
                signature.outcome == "later" and await aligned.signs(signature.domain)
            )
    later = later or aligned.later
    policy = await aligned.policy()  # for a person: nothing waits for it
    return Judged(Proof.FAILED, _why(evidence, f"policy of {domain}: {policy}"), later)


class Alignment:
    """What is aligned with an author's domain.

    The very same domain is, whatever is published: no question is asked for it. `later`: of another one it
    can't be told now, as something did not answer.
    """

    def __init__(self, domain: str, texts: Texts) -> None:
        self._domain = domain
        self._texts = texts
        self._trees: dict[str, Tree | None] = {}  # by domain; None: it can't be had now
        self.later = False

    async def signs(self, domain: str) -> bool:
        return await self._aligned(domain, lambda policy: policy.adkim)

    async def sends(self, domain: str) -> bool:
        return await self._aligned(domain, lambda policy: policy.aspf)

    async def policy(self) -> str:
        """What the author's domain wishes, for a person."""
        tree = await self._above(self._domain)
        if tree is None:
            return "no answer"
        return "none" if tree.policy is None or tree.policy.p is None else tree.policy.p.value

    async def _above(self, domain: str) -> Tree | None:
        """What is published above a domain, asked for once; None: it can't be had now."""
        if domain not in self._trees:
            try:
                self._trees[domain] = await walk(domain, self._texts)
            except Later:
                self.later, self._trees[domain] = True, None
        return self._trees[domain]

    async def _aligned(
        self, domain: str, mode: Callable[[dmarc.Policy], dmarc.DMARCAlignment]
    ) -> bool:
        domain = domain.lower().rstrip(".")
        if domain == self._domain:
            return True
        tree = await self._above(self._domain)
        if tree is None or tree.policy is None:
            return False
        if mode(tree.policy) is not dmarc.DMARCAlignment.RELAXED:
            return False
        organization = tree.organization
        if domain != organization and not domain.endswith(f".{organization}"):
            return False
        signer = await self._above(domain)
        return signer is not None and signer.organization == organization


async def _vouched(
    results: Collection[MethodResult],
    author: str,
    taken: Collection[str],
    aligned: Alignment,
) -> bool:
    """Whether another's judgement proves the author."""
    for result in results:
        if result.result != "pass":
            continue
        if result.method == "dmarc" and result.domain == author and {"dkim", "spf"} <= set(taken):
            return True
        if result.method == "dkim" and "dkim" in taken and await aligned.signs(result.domain):
            return True
        if result.method == "spf" and "spf" in taken and await aligned.sends(result.domain):
            return True
    return False


def _why(evidence: Evidence, policy: str) -> str:
    """What was found instead, for the person who decides: domains and results, nothing of the text."""
    report = evidence.report
    said = [
        f"dkim {each.domain}: {each.outcome}{f' ({each.detail})' if each.detail else ''}"
        for each in report.signatures
    ] or ["dkim: none"]
    if evidence.spf is not None:
        said.append(f"spf {evidence.spf.domain}: {evidence.spf.spf}")
    elif evidence.spf_later:
        said.append("spf: no answer")
    if report.chain != "none":
        said.append(f"arc {', '.join(report.sealers)}: {report.chain}".replace(" :", ":"))
    said += [f"upstream {each.method} {each.domain}: {each.result}" for each in report.upstream]
    return "; ".join([*said, policy])[:1000]


def _parsed(record: str, domain: str) -> dmarc.Policy | None:
    try:
        return dmarc.DMARC().parse_record(record, domain, strict=False)
    except (dmarc.Error, ValueError):
        return None


def _below(name: str, domain: str) -> str:
    """The domain one label below `name` on the way down to `domain`."""
    return ".".join(domain.split(".")[-(name.count(".") + 2) :])
