"""Places that things are brought to: S3 and SFTP, behind the port `vault.storage.places`.

Here: one module a protocol, and `open`, which picks. Not here: a folder of this machine
(`vault.storage.places`).

    place = open_place(section, config.resolve)
"""
