"""The register of a printed certificate (销毁清册): what was destroyed, item by item.

Promises: a line for each document of the register and none else, in its order, whatever became of it;
and for each the rule, the law behind it and the dates that made it due.

Leaves out: sizes, commitments and ledger entries of the single documents, which are in the
attached file; a director reads names, years and periods.

Rules:
1. What repeats is printed once: grounds are numbered, and a line refers to its own.
2. Where Order 79 governs an item, the columns are those its art. 18 asks for: 档案名称、卷号、册数、
   起止年度、档案编号、应保管期限、已保管期限、销毁时间. Electronic records are not bound: no volume
   number, one item each, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from vault.certificate.model import Body, Certificate, Text
from vault.certificate.pdf.page import Column, Sheet
from vault.certificate.pdf.words import kept, period, under_order_79, word


def register(sheet: Sheet, certificate: Certificate) -> None:
    """Print the section: the grounds first, then the lines, then the reasons of what was withdrawn."""
    body = certificate.body
    sheet.section("Register of documents", "销毁清册")
    grounds: dict[tuple[str, ...], int] = {}
    references: list[int] = []
    for item in body.register:
        begin = sheet.pick(word(item.trigger))
        ground = (
            f"{sheet.pick(item.title)}\n{item.record_class}",
            f"{item.legal_basis}\n{item.rule}",
            f"{begin} {item.trigger_on.isoformat()} + {sheet.pick(period(item.period))}",
            sheet.when(item.eligible_at),
        )
        references.append(grounds.setdefault(ground, len(grounds) + 1))
    sheet.table(
        [
            "§",
            sheet.say("Record class", "档案类别"),
            sheet.say("Legal basis and rule", "法律依据与规则"),
            sheet.say("Period", "保管期限"),
            sheet.say("Could be destroyed from", "可销毁起始"),
        ],
        [[str(number), *ground] for ground, number in grounds.items()],
        (7, 34, 66, 42, 25),
        size=6.8,
    )
    ordered = under_order_79(body)
    sheet.keep(30)
    if ordered:
        sheet.words(
            Text(
                en="Columns as in Order 79, art. 18. The records are electronic and not bound: they have "
                "no volume number, and each counts as one item.",
                zh="以下栏目依照《会计档案管理办法》第十八条。所列均为电子会计档案，未装订成卷："
                "无卷号，每份计为 1 件。",
            ),
            7.8,
        )
    sheet.listing(_columns(sheet, ordered=ordered), _lines(sheet, body, references, ordered))
    for outcome in body.outcomes:
        if outcome.result == "withdrawn":
            state = sheet.pick(word(outcome.result))
            reason = sheet.told(outcome.reason)
            sheet.paragraph(f"{outcome.document_id}, {state}: {reason}", 8)


def _columns(sheet: Sheet, *, ordered: bool) -> list[Column]:
    """The register's columns: art. 18 of Order 79 asks for six of these where it governs."""
    short = sheet.language == "en"
    middle = (
        [
            Column("Vol." if short else "卷号", 8, "C"),
            Column("Items" if short else "册数", 8, "C"),
        ]
        if ordered
        else [Column("Received" if short else "收到日期", 16)]
    )
    return [
        Column("No." if short else "序号", 9, "R"),
        Column("Name" if short else "档案名称", 26),
        *middle,
        Column("Year" if short else "起止年度", 12, "C"),
        Column("Archive number" if short else "档案编号", 47),
        Column("To keep" if short else "应保管期限", 15),
        Column("Kept" if short else "已保管期限", 19),
        Column("Destroyed" if short else "销毁时间", 25),
        Column("§", 5),
    ]


def _lines(sheet: Sheet, body: Body, references: list[int], ordered: bool) -> Iterator[list[str]]:
    outcomes = {item.document_id: item for item in body.outcomes}
    for number, (item, reference) in enumerate(
        zip(body.register, references, strict=True), start=1
    ):
        outcome = outcomes.get(item.document_id)
        result = duration = ""
        if outcome is not None and outcome.destroyed_at is not None:
            result = sheet.when(outcome.destroyed_at)
            on = outcome.destroyed_at.astimezone(sheet.zone).date()
            duration = _one(sheet, kept(item, on))
        elif outcome is not None:
            result = _one(sheet, word(outcome.result))
        yield [
            str(number),
            _one(sheet, item.title),
            *(["\u2014", "1"] if ordered else [item.received_on.isoformat()]),
            "" if item.fiscal_year is None else str(item.fiscal_year),
            item.document_id,
            _one(sheet, period(item.period)),
            duration,
            result,
            str(reference),
        ]


def _one(sheet: Sheet, text: Text) -> str:
    """For a narrow column: Chinese wherever the print has any."""
    return text.en if sheet.language == "en" else text.zh
