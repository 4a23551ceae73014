"""The courier: the process that carries sealed things to places elsewhere, and holds no key.

Here: the protocols of places (`places`) and the work of carrying. Not here: what is due, which the core says
(`gateway.core.outbound`).
"""
