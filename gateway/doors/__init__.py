"""The doors: processes that face the network. They hold no key but those of the documents they carry.

Here: `sftp` and `smtp`. Not here: who may come in, which the core decides (`gateway.core.login`).
"""
