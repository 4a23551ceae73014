"""Who keeps which key: the root key or token, keyrings, their copies, and what custody of them means.

Here: opening, generating, rotating and losing keys. Not here: the ciphers that use them (`vault.crypto`), and
the core's way to carry copies elsewhere.
"""
