"""Intake: a document on its way in, up to the moment after which it cannot be lost.

Here: uploads, partial documents, names for a while, quotas, recipients of mail, receipts. Not here: the
protocols (`gateway.doors`), and what a document is (`gateway.core.inspection`).

    upload = receive.begin(intake, core.now(), client_id=client, channel="sftp", name="a.pdf")
    receive.commit(intake, upload, size, sha256)  # once its future is done it may be acknowledged
"""
