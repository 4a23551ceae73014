"""The options that commands share, declared once so that they read and behave alike everywhere.

Promises: `-c/--config`, `--json`, `--as` and `--key` mean the same in every command that has them. A
group of commands called without one shows its help and ends as a usage error.
Leaves out: what the options do (`connection`, `signing`, `output`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

ConfigPath: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration (else ./config.toml, then /etc/strongroom/config.toml).",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document.")
]
As: TypeAlias = Annotated[
    str,
    typer.Option("--as", metavar="NAME", help="Act as this account; sign the act with --key."),
]
Key: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--key",
        "--signing-key",
        metavar="FILE",
        help="SSH key that signs: a private key, or a .pub whose key an agent or token holds.",
    ),
]
SigningKey: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--signing-key",
        metavar="FILE",
        help="SSH key that signs for --as: a private key, or a .pub for an agent or token.",
    ),
]

VerifierKeys: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--vkey",
        metavar="KEY|FILE",
        help="A key of the ledger as you know it, or a file of keys.",
    ),
]


REQUIRED: Final[Any] = ...


def option(flag: str, about: str, default: Any = "", **more: Any) -> Any:
    """An option of a command's own, as the default of its parameter; `REQUIRED`: it has to be given."""
    return typer.Option(default, flag, help=about, **more)


def flag(name: str, about: str) -> Any:
    """An option that is there or not."""
    return typer.Option(False, name, help=about)


def argument(metavar: str | None, about: str, default: Any = REQUIRED, **more: Any) -> Any:
    """What a command is given by its place."""
    return typer.Argument(default, metavar=metavar, help=about, **more)


def new_group(about: str) -> typer.Typer:
    """A group of commands that shows its help when called without one (exit code 2)."""
    group = typer.Typer(
        help=about, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )

    @group.callback(invoke_without_command=True)
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help(), err=True)
            raise typer.Exit(2)

    return group
