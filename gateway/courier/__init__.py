"""The courier: the process that brings sealed things to places elsewhere, and holds no key.

Here: the protocols of places (`places`) and the work of transferring. Not here: what is due, which the core
says (`gateway.core.outbound`).
"""
