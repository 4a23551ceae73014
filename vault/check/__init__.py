"""Whether a store is what it should be: every file, every row, every entry of the ledger.

Here: reading and judging, without changing. Not here: mending (`vault.keys.custody`,
`vault.backup`).

    report = check(store)
    report.findings
"""
