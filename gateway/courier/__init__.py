"""The courier: the process that brings sealed things and finished messages elsewhere, and holds no key of the
store.

Here: the protocols of places (`places`), of the relay and of webhooks, and the work of transferring. Not
here: what is due, which the core says (`gateway.core.outbound`).
"""
