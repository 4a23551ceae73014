"""Ciphers, digests and signatures: pure functions and streams over bytes.

Here: the chunked AEAD and sealed files, wrapped keys, digests, buffers, SSH signatures. Not here: which key
belongs to whom (`vault.keys`), and where files lie (`vault.storage`).
"""
