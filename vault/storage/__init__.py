"""Files and places: the one durable write, sealed blobs, backup targets, raw disk.

Here: bytes that must survive a crash, and bytes that must be gone. Not here: what they mean, or any key.

Usage (`folder` is a `Path`):
    >>> from vault.storage.places import DirectoryPlace
    >>> place = DirectoryPlace(folder)
    >>> place.put("copies/house.keyring", [b"sealed ", b"bytes"])
    >>> b"".join(place.get("copies/house.keyring"))
    b'sealed bytes'
    >>> list(place.names("copies"))
    [('copies/house.keyring', 12)]
"""
