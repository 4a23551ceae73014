"""YARA-X over the bytes of a document: shipped rules, and those an operator adds.

Promises: memory is bounded by one window whatever the document's size; a rule that times out or
fails makes the outcome `error`, never clean. Leaves out: unpacking; parts are scanned as documents.

Rules: files up to `WHOLE` are scanned in one piece, larger ones in windows that overlap by
`OVERLAP` bytes, so a pattern shorter than that is seen wherever it lies. `first_window` tells rules
whether offset 0 is the start of the file. A rule says by its metadata whether it is "found" or
"suspect"; one that does not say is "found". Details name rules only.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.errors import ConfigurationError
from gateway.inspect.document import MIB, Document, Examination, read_exactly

if TYPE_CHECKING:
    import yara_x

NAME: Final = "yara"
WHOLE: Final = 32 * MIB
OVERLAP: Final = 64 * 1024
_TIMEOUT_SECONDS: Final = 30


class RuleSet:
    """Compiled rules with a scanner. Built once by the manager, before it forks."""

    def __init__(self, rules: yara_x.Rules, version: str) -> None:
        import yara_x

        self.version = version
        self._scanner = yara_x.Scanner(rules)
        self._scanner.set_timeout(_TIMEOUT_SECONDS)

    @classmethod
    def load(cls, extra: Path | None = None) -> RuleSet:
        """Compile the shipped rules and every `*.yar` file of the operator's directory.

        Raises:
            ConfigurationError: a rule file can't be read or compiled (named, with its first fault).
        """
        import yara_x

        compiler = yara_x.Compiler(includes_enabled=False)
        compiler.define_global("first_window", True)
        sources = {
            f"shipped/{item.name}": item.read_text("utf-8")
            for item in (resources.files("gateway.inspect.scan") / "rules").iterdir()
            if item.name.endswith(".yar")
        }
        if extra is not None:
            if not extra.is_dir():
                raise ConfigurationError(f"{extra}: expected a directory of YARA rules, found none")
            for path in sorted(extra.glob("*.yar")):
                try:
                    sources[f"local/{path.name}"] = path.read_text("utf-8")
                except (OSError, UnicodeDecodeError) as error:
                    raise ConfigurationError(
                        f"{path}: expected a readable UTF-8 rule file, found {type(error).__name__}"
                    ) from error
        digest = hashlib.sha256()
        for origin, source in sorted(sources.items()):
            compiler.new_namespace(origin)
            try:
                compiler.add_source(source, origin=origin)
            except yara_x.CompileError as error:
                first = str(error).splitlines()[0] if str(error) else "an error"
                raise ConfigurationError(
                    f"{origin}: expected valid YARA rules, found {first}"
                ) from error
            digest.update(source.encode())
        return cls(compiler.build(), f"rules {digest.hexdigest()[:12]}")

    def match(self, data: bytes, *, first: bool) -> list[tuple[str, bool]]:
        """The rules that match one window: (name, whether it means `found`).

        Raises:
            yara_x.ScanError, yara_x.TimeoutError: the window could not be judged.
        """
        self._scanner.set_global("first_window", first)
        matched = []
        for rule in self._scanner.scan(data).matching_rules:
            severity = dict(rule.metadata).get("severity", "found")
            matched.append((rule.identifier, severity != "suspect"))
        return matched


def scan(document: Document, rules: RuleSet) -> Examination:
    """Scan a whole document (errors of the library pass through: the caller makes them `error`)."""
    result = Examination(NAME, rules.version)
    document.source.seek(0)
    window = b""
    first = True
    while True:
        fresh = read_exactly(document.source, WHOLE - len(window))
        if not fresh and not first:
            return result
        window += fresh
        for name, found in rules.match(window, first=first):
            result.mark(name, found=found)
        if len(window) < WHOLE:
            return result
        window = window[-OVERLAP:]
        first = False
