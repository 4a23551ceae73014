"""The mail door: an SMTP server that seals every message while it arrives.

Here: the conversation, its limits, the sandbox. Not here: who may send what to whom, which the core says, and
taking a message apart (`gateway.inspect`).
"""
