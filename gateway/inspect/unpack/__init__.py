"""Taking containers apart: mail, archives, TNEF, attachments of PDFs; and what to leave in them.

Here: parts, with limits that hold over all of them. Not here: judging a part (`gateway.inspect.scan`).
"""
