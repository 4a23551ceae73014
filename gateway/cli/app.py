"""The program `strongroom`: its commands, and how every error ends.

Promises: every error is one line on standard error, `strongroom: subject: expected …, found …`, and never
a traceback (`STRONGROOM_DEBUG=1` shows one). Exit codes: 0 fine; 1 the check or operation failed; 2 usage
or configuration; 130 interrupted. A reader that goes away (`| head`) ends it quietly.

A command's module is imported when that command is called: a door, which must stay small, loads no other.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gateway.cli.support import output
from gateway.errors import ConfigurationError, GatewayError
from vault.errors import (
    RootKeyRefused,
    StoreExists,
    StoreLocked,
    StoreMissing,
    VaultError,
    WrongRootKey,
)

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

_CONFIGURATION: Final = (
    ConfigurationError,
    StoreMissing,
    StoreLocked,
    StoreExists,
    WrongRootKey,
    RootKeyRefused,
)
# Every command and group of commands: the module it lives in, and its name there. In the order of `--help`.
_COMMANDS: Final = {
    "init": ("init", "init"),
    "run": ("roles", "run"),
    "core": ("roles", "core"),
    "sftp": ("roles", "sftp"),
    "smtp": ("roles", "smtp"),
    "inspect": ("roles", "inspect"),
    "courier": ("roles", "courier"),
    "resolver": ("roles", "resolver"),
    "mailbox": ("roles", "mailbox"),
    "client": ("clients", "group"),
    "account": ("accounts", "group"),
    "penalty": ("penalties", "group"),
    "document": ("documents", "group"),
    "hold": ("documents", "holds"),
    "retention": ("retention", "group"),
    "disposal": ("disposal", "group"),
    "certificate": ("certificates", "group"),
    "receipt": ("receipts", "group"),
    "access": ("access", "group"),
    "backup": ("backup", "group"),
    "status": ("oversight", "status"),
    "check": ("oversight", "check"),
    "ledger": ("ledger", "group"),
    "keys": ("keys", "keys"),
    "notice": ("notices", "group"),
    "clock": ("clock", "group"),
    "doctor": ("doctor", "doctor"),
}
# Typer raises its usage errors as subclasses of this, and names it nowhere else in public.
_UsageError: Final[type[Exception]] = typer.BadParameter.__bases__[0]

_STYLE: Final[dict[str, Any]] = {
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}


class _Commands(TyperGroup):
    """The commands of the table above, imported when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"gateway.cli.commands.{module}"), attribute)
        alone = typer.Typer(**_STYLE)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=cmd_name)
        else:
            alone.command(cmd_name)(found)
            alone.callback()(lambda: None)  # else Typer makes the only command the program itself
        return typer.main.get_group(alone).commands[cmd_name]


app = typer.Typer(
    name="strongroom",
    cls=_Commands,
    help="Strongroom: secure document intake and retention.",
    context_settings={"help_option_names": ["-h", "--help"]},
    **_STYLE,
)


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        output.say(f"strongroom {_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("strongroom")
    except PackageNotFoundError:
        return "(not installed)"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit.

    Args:
        arguments: the command line; None: the process's.
    """
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough; nothing more can be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        command = typer.main.get_command(app)
        result = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="strongroom",
            standalone_mode=False,
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.Abort:  # what Typer makes of an end of input where something was asked for
        return _failed("input: it ended where an answer was asked for", USAGE)
    except _UsageError as error:
        return _failed(_usage(error), USAGE)
    except _CONFIGURATION as error:
        return _failed(str(error), USAGE)
    except (GatewayError, VaultError) as error:
        return _failed(str(error), FAILED)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  a traceback could hold document text
        return _failed(
            f"{type(error).__name__}: an unexpected error; STRONGROOM_DEBUG=1 shows where",
            FAILED,
        )
    return result if isinstance(result, int) else 0


def _failed(message: str, code: int) -> int:
    if os.environ.get("STRONGROOM_DEBUG") == "1":
        traceback.print_exc()
    output.error(message)
    return code


def _usage(error: Exception) -> str:
    """A usage error as subject, expected, found."""
    context = getattr(error, "ctx", None)
    # "strongroom document list" → "document list"
    command = context.command_path.partition(" ")[2] if context is not None else ""
    said = str(getattr(error, "format_message", error.__str__)())
    see = f"strongroom {command} --help".replace("  ", " ")
    return f"{command or 'command'}: expected what `{see}` says, found: {said}"
