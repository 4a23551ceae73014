"""Keys: the root key or token, the keyrings, their copies, and the custody of documents' keys.

Here: opening, generating, rotating and losing keys. Not here: the ciphers that use them (`vault.crypto`), and
the core's way to carry copies elsewhere.

Usage (`folder` is a `Path`):
    >>> from vault.keys.keyring import KeyringStore
    >>> from vault.keys.root import create_root_key
    >>> (folder / "keyrings").mkdir(mode=0o700)
    >>> keyrings = KeyringStore(folder / "keyrings", create_root_key(str(folder / "root.key")))
    >>> keyring = keyrings.create("01JDA3KZ5N8Q4R6S7T9VWXYZ12", {})
    >>> keyring.epoch, keyrings.owners()
    (1, ['01JDA3KZ5N8Q4R6S7T9VWXYZ12'])
"""
