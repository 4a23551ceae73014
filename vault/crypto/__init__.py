"""Ciphers, digests and signatures: pure functions and streams over bytes.

Here: the chunked AEAD and sealed files, wrapped keys, digests, buffers, SSH signatures. Not here: which key
belongs to whom (`vault.keys`), and where files lie (`vault.storage`).

Usage (`folder` is a `Path`):
    >>> import os
    >>> from vault.crypto.sealed import SealedReader, SealedWriter, document_context
    >>> from vault.crypto.wrapping import new_key
    >>> key, context = new_key(), document_context("01JDA3KZ5N8Q4R6S7T9VWXYZ12")
    >>> fd = os.open(folder / "sealed", os.O_RDWR | os.O_CREAT)
    >>> writer = SealedWriter(fd, key, context)
    >>> writer.write(b"an invoice")
    >>> writer.finish()
    10
    >>> with SealedReader(fd, key, context, close_fd=True) as reader:
    ...     reader.readall()
    b'an invoice'
"""
