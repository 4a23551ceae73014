"""Backups: their format, what is added to them later, and bringing a store back from one.

Here: manifest, amendments, restore, replay of destructions, the house keyring's return. Not here: when a
backup is made and how it is carried, which are the core's and the courier's.

    report = restore(lambda: DirectoryPlace(place), into, keyrings, root, now)
"""
