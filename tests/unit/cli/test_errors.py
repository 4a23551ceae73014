"""Every fault ends with its exit code and one line; nothing ever shows a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import app
from gateway.cli.support import connection
from gateway.errors import ConfigurationError, Disconnected, Refusal, WireError
from tests.servers.gateway_process import environment, installation
from tests.unit.cli.here import Program
from vault.errors import (
    IntegrityError,
    KeyUnavailable,
    RootKeyRefused,
    StorageFull,
    StoreExists,
    StoreLocked,
    StoreMissing,
    WrongRootKey,
)
from vault.keys.root import FileRootKey
from vault.store import Store


@pytest.fixture
def made():
    with installation() as made:
        yield made


@pytest.fixture
def program(made, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(capsys, made.config)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["nonsense"], "nonsense"),
        (["document", "nonsense"], "nonsense"),
        (["document", "list", "--nonsense"], "--nonsense"),
        (["document", "list", "--limit", "many"], "--limit"),
        (["document", "list", "--limit", "-1"], "--limit"),
        (["document", "show"], "DOC"),
        (["document", "show", "a", "b"], "b"),
        (["client", "add", "acme"], "--name"),
        (["account", "add", "x", "--role", "king"], "king"),
        (["account", "key", "acme"], "one of them"),
        (["disposal", "statement", "b", "--as", "x", "--decision", "maybe"], "maybe"),
        (["disposal", "approve", "b", "--as", "x"], "--signature"),
        (["disposal", "approve", "b", "--key", "k"], "--as"),
        (["hold", "release", "h", "--as", "officer1"], "--key"),
        (["hold", "release", "h", "--key", "k"], "--as"),
    ],
)
def test_wrong_usage_is_told_in_one_line_with_exit_code_2(
    program: Program, arguments: list[str], found: str
) -> None:
    assert found in program(*arguments).one_line(2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[store\n", "TOML"),
        ("[store]\npth = 'x'\n", "store.pth"),
        ("[sftp]\nmax_connections = 'x'\n", "sftp.max_connections"),
        ("[retention]\npacks = ['atlantis']\n", "atlantis"),
    ],
)
@pytest.mark.parametrize("command", [["status"], ["core"], ["document", "list"]])
def test_a_faulty_configuration_is_told_in_one_line_with_exit_code_2(
    made, program: Program, text: str, words: str, command: list[str]
) -> None:
    made.config.write_text(text)
    assert words in program(*command).one_line(2)


def test_no_configuration_at_all_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.config.loading.DEFAULT_PATHS", (Path("config.toml"),))
    assert "strongroom init" in Program(capsys)("status").one_line(2)


def test_a_missing_store_is_never_made(made, program: Program) -> None:
    made.configure(lambda text: text.replace('path = "vault"', 'path = "nowhere"'))
    for command in (["status"], ["core"], ["document", "list", "--json"]):
        assert "expected a store, found none" in program(*command).one_line(2)
    assert not (made.folder / "nowhere").exists()


def test_another_root_key_is_refused(made, program: Program) -> None:
    (made.folder / "root.key").unlink()
    FileRootKey.create(made.folder / "root.key")
    assert "expected root key" in program("status").one_line(2)
    assert "expected root key" in program("core").one_line(2)


def test_a_missing_root_key_is_a_matter_of_configuration(made, program: Program) -> None:
    (made.folder / "root.key").unlink()
    assert "root key" in program("status").one_line(2)
    assert "root key" in program("core").one_line(2)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o777])
def test_a_root_key_that_others_can_read_is_refused(made, program: Program, mode: int) -> None:
    (made.folder / "root.key").chmod(mode)
    assert f"found {mode:04o}" in program("status").one_line(2)


def test_a_second_opener_of_the_store_is_refused(made, program: Program) -> None:
    store = Store.open(made.folder / "vault", FileRootKey.load(made.folder / "root.key"))
    try:
        assert "found another process" in program("document", "list").one_line(2)
    finally:
        store.close()
    assert program("document", "list").code == 0


def test_a_store_of_another_user_is_not_opened_even_by_root(
    made, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection.os, "geteuid", lambda: os.getuid() + 1)
    assert "expected to be opened by its owner" in program("status").one_line(2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("a: expected b, found c"), 2),
        (StoreMissing("a: expected b, found c"), 2),
        (StoreLocked("a: expected b, found c"), 2),
        (StoreExists("a: expected b, found c"), 2),
        (WrongRootKey("a: expected b, found c"), 2),
        (RootKeyRefused("a: expected b, found c"), 2),
        (Refusal("denied", "a: expected b, found c"), 1),
        (Disconnected("a: expected b, found c"), 1),
        (WireError("a: expected b, found c"), 1),
        (StorageFull("a: expected b, found c"), 1),
        (KeyUnavailable("a: expected b, found c"), 1),
        (IntegrityError("a: expected b, found c", kind="chunk"), 1),
    ],
)
def test_each_class_of_error_has_its_exit_code(
    program: Program, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(connection, "ask", fail)
    assert program("status").one_line(code) == "strongroom: a: expected b, found c"


def test_an_unforeseen_error_names_its_type_and_never_its_text(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError("text of a document")

    monkeypatch.setattr(connection, "ask", fail)
    line = program("status").one_line(1)
    assert "LookupError" in line
    assert "document" not in line
    monkeypatch.setenv("STRONGROOM_DEBUG", "1")
    assert "Traceback" in program("status").err


def test_an_interruption_is_silent_with_exit_code_130(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "ask", interrupt)
    done = program("status")
    assert (done.code, done.out, done.err) == (130, "", "")


def test_a_reader_that_goes_away_ends_the_program_quietly(made) -> None:
    command = f"{sys.executable} -m gateway.cli retention rules -c {made.config} | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}} >&2"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(done.stdout) == 10
    assert done.stderr.strip() in {"0", "1"}


def test_results_go_to_standard_output_and_nothing_else_does(program: Program) -> None:
    done = program("disposal", "propose", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.data == []


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["client", "show", "nobody"], "client nobody"),
        (["client", "add", "Acme!", "--name", "x"], "argument slug: expected"),
        (["client", "add", "acme", "--name", "x"], "found it there"),
        (["client", "add", "b", "--name", "x", "--fiscal-year-end", "02-30"], "fiscal year"),
        (["client", "add", "b", "--name", "x", "--jurisdiction", "zz"], "jurisdiction"),
        (["account", "add", "x", "--role", "officer"], "a key or a password"),
        (["account", "add", "x", "--role", "client"], "client:"),
        (["document", "show", "ABC"], "found none"),
        (["document", "list", "--state", "LOST"], "state:"),
        (["document", "release", "ABCDEFG"], "found console"),
        (["hold", "place", "--reason", "x"], "a document or a client"),
        (["hold", "place", "--reason", " ", "--client", "acme"], "a reason"),
        (["retention", "preview", "--at", "soon"], "--at"),
        (["disposal", "show", "01M00000000000000000000000"], "batch"),
        (["certificate", "show", "01M00000000000000000000000"], "certificate"),
    ],
)
def test_a_refusal_is_told_in_one_line_with_exit_code_1(
    program: Program, arguments: list[str], found: str
) -> None:
    assert found in program(*arguments).one_line(1)


def test_main_takes_the_process_s_arguments_when_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["strongroom", "--version"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("strongroom ")
