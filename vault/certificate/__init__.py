"""Certificates of destruction, and receipts: what they state, how they are signed, how anyone verifies them.

Here: the model, its statements, signatures, the verifier. Not here: how they look on paper
(`vault.certificate.pdf`), and who issues them when.

Usage (a certificate file and the ledger's verifier key, each kept by the reader):
    >>> from vault.certificate.verify import verify_certificate
    >>> report = verify_certificate(certificate, vkey)
    >>> report.passed
    True
"""
