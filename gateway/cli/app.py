"""The program `strongroom`: its commands, and how every error ends.

Promises: every error is one line on standard error, `strongroom: subject: expected …, found …`, and never
a traceback (`STRONGROOM_DEBUG=1` shows one). Exit codes: 0 fine; 1 the check or operation failed; 2 usage
or configuration; 130 interrupted. A reader that goes away (`| head`) ends it quietly.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from gateway.cli import (
    accounts,
    backup,
    certificates,
    clients,
    disposal,
    doctor,
    documents,
    keys,
    ledger,
    output,
    oversight,
    retention,
    roles,
)
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
# Typer raises its usage errors as subclasses of this, and names it nowhere else in public.
_UsageError: Final[type[Exception]] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="strongroom",
    help="Strongroom: secure document intake and retention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


roles.add_to(app)
app.add_typer(clients.group, name="client")
app.add_typer(accounts.group, name="account")
app.add_typer(documents.group, name="document")
app.add_typer(documents.holds, name="hold")
app.add_typer(retention.group, name="retention")
app.add_typer(disposal.group, name="disposal")
app.add_typer(certificates.group, name="certificate")
app.add_typer(backup.group, name="backup")
oversight.add_to(app)
app.add_typer(ledger.group, name="ledger")
keys.add_to(app)
app.command("doctor")(doctor.doctor)


def _version() -> str:
    try:
        return importlib.metadata.version("strongroom")
    except importlib.metadata.PackageNotFoundError:
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
        return _failed("input: expected an answer, found its end", USAGE)
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
            f"{type(error).__name__}: expected no such error, found one;"
            " STRONGROOM_DEBUG=1 shows where",
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
