"""Certificates of destruction, and receipts: what they state, how they are signed, how anyone verifies them.

Here: the model, its statements, signatures, the verifier. Not here: how they look on paper
(`vault.certificate.pdf`), and who issues them when.
"""
