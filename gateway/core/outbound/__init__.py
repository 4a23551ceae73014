"""What leaves the machine: copies of keyrings, the ledger's publication, backups (`backup`).

Here: what is due, what failed, when it is tried again. Not here: the protocols, which the courier speaks
(`gateway.courier`).
"""
