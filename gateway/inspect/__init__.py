"""The inspectors: sandboxed processes that open hostile files, and hold no key.

Here: `pool`, `rehearsal` and `worker` (processes), `inspection` (one document, start to end), `scan`,
`unpack`, `classify`. Not here: what a verdict does to a document (`gateway.core.inspection`).

    verdict = inspect(document, limits, parts, rules=rules, clamd=clamd)
"""
