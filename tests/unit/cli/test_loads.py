"""What a process of a role loads: a door is small, and can't do what it has not loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from gateway.cli.app import main
try:
    main([{role!r}, "-c", "/nonexistent/config.toml"])
except SystemExit as end:
    code = end.code
assert code == 2, code
import {module}
print(*sys.modules)
"""
CORE = {"gateway.core.core", "sqlalchemy", "alembic", "apscheduler"}
PARSERS = {"pikepdf", "lxml", "yara_x", "oletools", "pypdfium2", "magic"}
PRINTING = {"fpdf", "fontTools", "pyhanko"}


@pytest.mark.parametrize(
    ("role", "module", "absent"),
    [
        ("sftp", "gateway.doors.sftp.listener", CORE | PARSERS | PRINTING | {"aiosmtpd"}),
        ("smtp", "gateway.doors.smtp.main", CORE | PARSERS | PRINTING | {"paramiko"}),
        ("core", "gateway.core.main", PARSERS | PRINTING | {"paramiko", "aiosmtpd", "alembic"}),
        ("inspect", "gateway.inspect.pool", CORE | PRINTING | {"paramiko", "aiosmtpd"}),
        ("mailbox", "gateway.doors.mailbox.main", CORE | PARSERS | PRINTING | {"paramiko"}),
        ("resolver", "gateway.resolver.main", CORE | PARSERS | PRINTING | {"paramiko"}),
        ("courier", "gateway.courier.main", CORE | PARSERS | PRINTING | {"paramiko", "obstore"}),
        ("status", "gateway.cli.commands.oversight", CORE | PARSERS | PRINTING | {"paramiko"}),
    ],
)
def test_a_role_loads_nothing_of_the_others(role: str, module: str, absent: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(role=role, module=module)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert absent & set(done.stdout.split()) == set()
