"""The catalogue: one SQLite database that knows every document, and the ledger of every act.

Here: tables, migrations, the one writer, states, and the ledger's rows with the keys that sign it. Not here:
the ledger's mathematics (`vault.ledger`), and sealed bytes (`vault.storage`).

Usage (`folder` is a `Path`):
    >>> from vault.catalogue import settings
    >>> from vault.catalogue.store import Catalogue
    >>> catalogue = Catalogue.create(folder / "catalogue.sqlite3")
    >>> catalogue.write(lambda tx: settings.put(tx.connection, "answer", "42"))
    >>> catalogue.read(lambda connection: settings.value(connection, "answer"))
    '42'
    >>> catalogue.close()
"""
