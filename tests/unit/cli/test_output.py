"""What is printed is whole, and can't steer the terminal it is printed on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli.support import output
from gateway.cli.support.output import Column
from gateway.errors import ConfigurationError

NASTY = "a\x1b[2Jb\nc\u202egnp.exe\x9b31m\u200b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        (False, "no"),
        (True, "yes"),
        (0.5, "0.5"),
        (["a", "b"], "a, b"),
        ({"a": 1}, "a 1"),
        ("数电票.xml", "数电票.xml"),
        (NASTY, r"a\u001b[2Jb\u000ac\u202egnp.exe\u009b31m\u200b"),
        ([NASTY[:3]], r"a\u001b["),
    ],
)
def test_a_value_is_shown_without_control_or_direction_characters(
    value: object, shown: str
) -> None:
    assert output.plain(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-11-22T00:30:00+08:00", "2026-11-21 16:30Z"),
        ("2026-11-22T02:51:00.123456+00:00", "2026-11-22 02:51Z"),
        ("2026-11-22", "2026-11-22"),
        ("soon", "soon"),
        (None, "-"),
    ],
)
def test_a_time_is_shown_in_utc_whatever_its_offset(value: object, shown: str) -> None:
    assert output.moment(value) == shown


def test_json_keeps_the_value_and_escapes_what_steers_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.json_document({"name": NASTY, "zh": "发票"})
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": NASTY, "zh": "发票"}
    assert "发票" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e", "\u200b"}


def test_a_pipe_gets_every_character_of_a_wide_table_and_no_colour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"id": "I" * 26, "name": "n" * 500 + "[red]", "size": 5}]
    columns = (Column("id", "ID"), Column("name", "NAME"), Column("size", "SIZE", right=True))
    output.table(rows, columns, "none")
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "NAME", "SIZE"]
    assert line.split() == ["I" * 26, "n" * 500 + "[red]", "5"]


def test_a_narrow_terminal_gets_whole_values_in_blocks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(output.Console):
        def __init__(self, **options):
            super().__init__(**{**options, "width": 40})

    monkeypatch.setattr(output, "Console", Narrow)
    rows = [{"id": "I" * 26, "client": "acme", "state": "FILED", "name": "n" * 60, "none": None}]
    columns = [Column(key, key.upper()) for key in ("id", "client", "state", "name", "none")]
    output.table(rows, columns, "none")
    text = capsys.readouterr().out
    assert text.splitlines() == [
        "I" * 26,
        "    client acme · state FILED",
        "    name " + "n" * 60,
    ]


def test_no_rows_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    output.table([], (Column("id", "ID"),), "Nothing here.")
    assert capsys.readouterr().out == "Nothing here.\n"


def test_an_error_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("file\nname \x1b[31m: expected\r\n this")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "strongroom: file name \\u001b[31m: expected this\n"


def test_a_file_is_made_new_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "f"
    output.write_new(path, b"first", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="expected no file"):
        output.write_new(path, b"second")
    assert path.read_bytes() == b"first"


def test_a_link_where_a_file_is_to_be_made_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to(tmp_path / "target")
    with pytest.raises(ConfigurationError, match="expected no file"):
        output.write_new(tmp_path / "f", b"data")
    assert not (tmp_path / "target").exists()


def test_a_file_whose_pieces_fail_is_removed(tmp_path: Path) -> None:
    def pieces():
        yield b"some"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        output.write_pieces(tmp_path / "f", pieces())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
def test_a_file_is_read_up_to_its_limit(tmp_path: Path, size: int, fits: bool) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    if fits:
        assert len(output.read_file(tmp_path / "f", 10)) == size
    else:
        with pytest.raises(ConfigurationError, match="at most 10 bytes"):
            output.read_file(tmp_path / "f", 10)
