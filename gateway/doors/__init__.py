"""The doors: processes that face the network. They hold no key but those of the documents they carry.

Here: `sftp`, `smtp` and `mailbox`, and what the doors for mail share (`sealing`,
`header`, `line_ends`). Not here: who
may come in, which the core decides (`gateway.core.login`).
"""
