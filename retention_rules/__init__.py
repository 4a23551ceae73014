"""Retention rules: what is kept how long, from when, and why. Pure; `RULES.md` is the format.

Here: packs and their parser, facts, periods, the decision and its explanation. Not here: the clock, holds as
they are placed, and what follows from a decision (`gateway.core.filing`, `gateway.core.disposal`).

Usage:
    >>> from datetime import date
    >>> from retention_rules.decision import decide, explain
    >>> from retention_rules.facts import Facts
    >>> from retention_rules.parser import load_rulebook
    >>> facts = Facts(
    ...     document_id="01JDA3KZ5N8Q4R6S7T9VWXYZ12",
    ...     jurisdiction="cn",
    ...     record_class="invoice",
    ...     fiscal_year=2024,
    ...     fiscal_year_end=(12, 31),
    ...     received_on=date(2025, 1, 15),
    ...     confirmed=True,
    ... )
    >>> decision = decide(facts, load_rulebook(["cn"]))
    >>> decision.status, decision.governing
    ('scheduled', 'cn-order79-01-source-vouchers@1')
    >>> explain(decision)[1]
    'Destruction may be proposed from 2055-01-01T00:00+08:00'
"""
