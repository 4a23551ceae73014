"""The catalogue: one SQLite database that knows every document, and the ledger of every act.

Here: tables, migrations, the one writer, states, and the ledger's rows with the keys that sign it. Not here:
the ledger's mathematics (`vault.ledger`), and sealed bytes (`vault.storage`).
"""
