"""What one connection to the core may ask, by the socket it came in by: one module a role.

Here: the rights of each socket, and what ends with a connection. Not here: accepting and framing
(`gateway.core.server`), and what is done (`admin`, `views`, `intake`, `inspection`, `outbound`).

    reply, descriptor = await SmtpSession(intake, proving, logins).handle(request)
"""
