"""A software token of SoftHSM2 for the tests of this process, in a temporary folder.

SoftHSM reads its configuration when the module is first used, and does not see tokens that are made later:
so there are two tokens, made once for the process, and each test uses objects of its own.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "correct-horse-1"
SO_PIN = "officer-of-security-1"
TOKEN = "strongroom-tests"
OTHER = "strongroom-other"
_numbers = itertools.count(1)


def require() -> Path:
    """The folder of the tokens; skips the test where there is no SoftHSM2."""
    if shutil.which("softhsm2-util") is None or not MODULE.is_file():
        pytest.skip("SoftHSM2 (softhsm2) is not installed")
    return _made()


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir(mode=0o700)
    (folder / "softhsm2.conf").write_text(
        f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    for token in (TOKEN, OTHER):
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", token, "--pin", PIN,
             "--so-pin", SO_PIN],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
    (folder / "pin").write_text(f"{PIN}\n")
    (folder / "pin").chmod(0o600)
    return folder


def address(name: str = "", *, token: str = TOKEN, pin: Path | None = None) -> str:
    """An address with a root object's name that no other test has."""
    folder = require()
    name = name or f"root-{next(_numbers)}"
    return (
        f"pkcs11:token={token};object={name}"
        f"?module-path={MODULE}&pin-source=file:{pin or folder / 'pin'}"
    )
