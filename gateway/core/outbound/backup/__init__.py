"""Backups: made, copied to targets, proved, searched for keys, amended, restored from.

Here: the core's side, one module a purpose. Not here: the format (`vault.backup.format`), and restoring a
whole store, which needs no core (`vault.backup.restore`).

    await run.run(outbound, "disk", actor)
    await proof.verify(outbound, "disk", actor)
"""
