"""Keys: the root key or token, the keyrings, their copies, and the custody of documents' keys.

Here: opening, generating, rotating and losing keys. Not here: the ciphers that use them (`vault.crypto`), and
the core's way to carry copies elsewhere.
"""
