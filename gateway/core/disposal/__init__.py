"""Disposal: what may be destroyed, who approves, how it is done, and the certificate.

Here: eligibility, batches, signatures, execution, searches for what is left, certificates. Not here: what the
rules say (`retention_rules`), and ending a key group (`gateway.core.keys`).
"""
