"""Making an installation: `strongroom init`, the demonstration, the tour.

Here: the first files of a new store.
Not here: running it (`gateway.process`), or its format (`vault`).

Usage:
    >>> create.create(Path("office"), datetime.now(UTC))
    PosixPath('office/config.toml')
"""
