"""What a person asks on the command line: one module a noun, one function an act.

Here: who may do what, and the acts. Not here: how a document moves (`disposal`, `filing`, …), and printing,
which is `gateway.cli`'s.

    session = AdminSession(wings, queue)
    await session.handle(AdminCall("hold.place", {"client": "acme", "reason": "audit"}))
"""
