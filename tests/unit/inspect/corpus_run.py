"""Inspects every corpus file of one family inside the real jail, and prints what came of it as JSON.

Run by `test_corpus.py` in a process of its own: a parser that crashes or hangs takes only this
process with it, and the test sees that. Usage: inspect_corpus_run.py CORPUS FAMILY
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from gateway.inspect import inspection, pool
from gateway.inspect.document import Document, Limits
from gateway.inspect.scan.yara import RuleSet
from gateway.process.sandbox import SandboxLimits, enter_sandbox
from tests.support.parts import Parts


def inspect(data, name, rules, depth=0):
    """Verdicts of a document and of everything in it."""
    parts = Parts()
    channel = "part" if depth else "sftp"
    document = Document("x", io.BytesIO(data), len(data), name, channel, depth)
    limits = Limits(max_expand_bytes=64 * 1024 * 1024)
    verdicts = [inspection.inspect(document, limits, parts, rules=rules, clamd=None)]
    for part_name, content in parts.taken:
        verdicts += inspect(content, part_name, rules, depth + 1)
    return verdicts


def main() -> None:
    corpus, family = Path(sys.argv[1]), sys.argv[2]
    # The key of the disguised samples stands in the corpus' own README, between backquotes.
    key = re.search(r"`([a-z]{100,})`", (corpus / "README.md").read_text("utf-8"))[1].encode()
    with (corpus / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    samples = []
    for row in rows:
        if row["family"] == family:
            data = (corpus / row["path"]).read_bytes()
            if row["path"].endswith(".xor"):
                data = bytes(b ^ key[i % len(key)] for i, b in enumerate(data))
            samples.append((row, data))
    pool._preload()
    rules = RuleSet.load()
    report = enter_sandbox(SandboxLimits(cpu_seconds=110, descriptors=32), os.getppid())
    results = []
    for row, data in samples:
        begun = time.monotonic()
        verdicts = inspect(data, row["path"].removesuffix(".xor").rsplit("/", 1)[-1], rules)
        scans = [scan for verdict in verdicts for scan in verdict.scans]
        first = verdicts[0]
        results.append(
            {
                "path": row["path"],
                "expectation": row["expectation"],
                "note": row["note"],
                "outcomes": sorted({scan.outcome for scan in scans}),
                "details": [f"{s.scanner}:{s.outcome}:{s.detail}" for s in scans if s.detail],
                "unreadable": sorted({v.unreadable for v in verdicts if v.unreadable}),
                "record_class": first.classification.record_class,
                "confidence": first.classification.confidence,
                "document_date": first.classification.document_date,
                "number": first.facts.get("invoice_number", ""),
                "seconds": round(time.monotonic() - begun, 2),
            }
        )
    json.dump({"fences": report.layers, "results": results}, sys.stdout)


if __name__ == "__main__":
    main()
