"""The command line: the only place that prints or exits.

Here: `app` (which command is where), `commands` (one module a group), `support` (what they share).
Not here: what an act does, which is the core's (`gateway.core.admin`).

Usage:
    >>> app.main(["hold", "list", "--json"])
    []
"""
