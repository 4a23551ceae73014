"""Rotation of keys, as the core does it while it serves.

Here: key groups, the root key, the ledger's signing key. Not here: what a key is and where it lies
(`vault.keys`), and SSH keys of people and hosts (`gateway.core.login`).

    begun = await rotation.start(core, "groups", actor)
    await rotation.run(keys, begun)
"""
