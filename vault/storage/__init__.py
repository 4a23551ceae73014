"""Files and places: the one durable write, sealed blobs, backup targets, raw disk.

Here: bytes that must survive a crash, and bytes that must be gone. Not here: what they mean, or any key.
"""
