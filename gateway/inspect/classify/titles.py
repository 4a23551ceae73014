"""The classes as `titles.toml` describes them: their titles and labels, ready to be looked for.

Promises: pure, from lines of text to what stands on them; the patterns take time linear in a line. Leaves
out: what follows from it (`classify`).

Rules:
- A title counts on a line that holds little else.
- Of two titles on one line the longer wins (银行存款余额调节表 is no 余额表, 对账单 no 回单).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from gateway.inspect.classify.dating import Label, Labels, label

TITLE_LINES: Final = 15
_TITLE_ROOM: Final = 26  # characters beside the title on its line
_PERIOD_ROOM: Final = 70
_OF_A_PERIOD: Final = tuple("0123456789-./:")  # a period beside a title is no other word
# Labels that count as words of their own only.
_PLAIN: Final = frozenset({"date", "datum", "日期", "period", "期间", "from", "von", "du", "dated"})
# A space between two ideographs that stand alone.
_SPACED_OUT: Final = re.compile(
    r"(?<=(?<!\S)[\u4e00-\u9fff]) (?=[\u4e00-\u9fff](?!\S))|"
    r"(?<=(?<!\S)[\u4e00-\u9fff]) (?=[\u4e00-\u9fff]:)"
)


@dataclass(frozen=True, slots=True)
class Title:
    """A title, ready to be looked for. `longer` are titles of other classes that contain it."""

    text: str
    folded: str
    pattern: re.Pattern[str]
    longer: tuple[Title, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A label of a class, ready to be looked for. `words` are its spellings, folded."""

    name: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]

    def stands_in(self, folded: str) -> bool:
        """Whether the label stands in a folded text: most do not, which a plain search tells faster."""
        return any(word in folded for word in self.words) and bool(self.pattern.search(folded))


@dataclass(frozen=True, slots=True)
class Class:
    """A record class as documents show it: see `titles.toml` for what each field is."""

    key: str
    titles: tuple[Title, ...]
    fields: tuple[Field, ...]
    needs: tuple[re.Pattern[str], ...]
    excluded: tuple[str, ...]
    dates: Labels
    exact: bool
    restricted: bool
    signs: tuple[re.Pattern[str], ...]
    headings: tuple[re.Pattern[str], ...]
    together: tuple[frozenset[str], ...]

    def is_title(self, line: str) -> bool:
        """Whether a line of a document is a title of this class, with room for its period."""
        folded = fold(line)
        return any(stands(title, folded, _PERIOD_ROOM) for title in self.titles)


@cache
def classes() -> tuple[Class, ...]:
    """All classes, in the order of the data."""
    text = (resources.files("gateway.inspect.classify") / "titles.toml").read_text("utf-8")
    data = tomllib.loads(text)
    items = data["class"]
    everything = [
        (item["key"], _title(title, exact=item.get("exact", False)))
        for item in items
        for title in item["titles"]
    ]
    return tuple(
        Class(
            key=item["key"],
            titles=tuple(
                Title(
                    title.text,
                    title.folded,
                    title.pattern,
                    tuple(
                        rival
                        for rival_key, rival in everything
                        if rival_key != item["key"]
                        and title.folded in rival.folded
                        and title.folded != rival.folded
                    ),
                )
                for key, title in sorted(everything, key=lambda pair: -len(pair[1].folded))
                if key == item["key"]
            ),
            fields=tuple(
                _field(label, exact=item.get("exact", False)) for label in item.get("fields", ())
            ),
            needs=tuple(re.compile(pattern) for pattern in item.get("needs", ())),
            excluded=tuple(fold(phrase) for phrase in item.get("not", ())),
            dates=_dates(item, data),
            exact=item.get("exact", False),
            restricted=item.get("restricted", False),
            signs=tuple(re.compile(pattern) for pattern in item.get("signs", ())),
            headings=tuple(re.compile(pattern) for pattern in item.get("headings", ())),
            together=tuple(frozenset(names) for names in item.get("together", ())),
        )
        for item in items
    )


def _title(text: str, *, exact: bool) -> Title:
    folded = fold(text)
    word = re.escape(folded)
    if exact:
        pattern = rf"^{word}$"
    elif _ideographic(folded):
        # Not 发票号码: there the word is the beginning of a label or of a sentence.
        pattern = rf"{word}(?![\u4e00-\u9fff])"
    else:
        # Western titles stand at the beginning or the end of their line, as whole words.
        pattern = rf"^{word}\b(?! (?:to|for|address|the|of)\b)|\b{word}[:.]?$"
    return Title(text, folded, re.compile(pattern))


def _field(label: str, *, exact: bool) -> Field:
    words = tuple(fold(spelling) for spelling in label.split("|"))
    choices = []
    for word in words:
        if exact:
            choices.append(rf"(?:^|\n){re.escape(word)} ?\S")
        elif _ideographic(word):
            choices.append(re.escape(word))
        else:
            choices.append(rf"(?<!\w){re.escape(word)}(?!\w)")
    return Field(label.split("|", 1)[0].rstrip(":"), words, re.compile("|".join(choices)))


def _dates(item: dict[str, Any], data: dict[str, Any]) -> Labels:
    own = tuple(_labels(group.split("|")) for group in item.get("dates", ()))
    title = item.get("title_states", "")
    weak = _labels(data["weak"])
    if not item.get("period", False):
        return Labels(own=own, weak=weak, title=title)
    # Behind the label "Date" a period is as well stated as behind any.
    periods = _labels([*item.get("periods", ()), *data["periods"], *data["weak"]])
    return Labels(own, _labels([*item.get("ends", ()), *data["ends"]]), periods, weak, title)


def _labels(texts: Iterable[str]) -> tuple[Label, ...]:
    return tuple(label(text, plain=text.casefold() in _PLAIN) for text in texts)


def title_in(kind: Class, lines: list[str]) -> str:
    """The title of a class on a title line, unless a longer title of another class covers it."""
    for line in lines:
        for title in kind.titles:
            if stands(title, line) and not any(stands(rival, line) for rival in title.longer):
                return title.text
    return ""


def stands(title: Title, line: str, room: int = _TITLE_ROOM) -> bool:
    """Whether a title stands on a folded line that holds little else."""
    # Most titles stand on no line: whether the words are there at all is asked before how much else is.
    if title.folded not in line or len(line) > len(title.folded) + room + _PERIOD_ROOM:
        return False
    words = len(line) - sum(map(line.count, _OF_A_PERIOD))
    return words <= len(title.folded) + room and bool(title.pattern.search(line))


def title_lines(text: str) -> list[str]:
    """The first lines of a text, folded: where a title stands."""
    lines = (fold(line) for line in text[:20_000].split("\n"))
    return [line for line in lines if line][:TITLE_LINES]


def fold(text: str) -> str:
    """Lower case, single spaces, and no spaces inside spaced-out words (发 票 is 发票)."""
    text = text.casefold().replace("（", "(").replace("）", ")").replace("：", ":")
    text = re.sub(r"[^\S\n]+", " ", text)
    text = _SPACED_OUT.sub("", text)
    return re.sub(r" ?([()/]) ?", r"\1", text).strip()


def _ideographic(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None
