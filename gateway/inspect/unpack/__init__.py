"""Taking containers apart: mail and TNEF, with what is in them.

Here: parts, with limits that hold over all of them. Not here: judging a part (`gateway.inspect.scan`).

    unpacked = unpack_mail(document, limits, sink)
"""
