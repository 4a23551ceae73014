"""How formats are laid out: zip, records of Office, expansion of PDF, structured invoices and statements.

Here: reading, with limits. Not here: judging what was read (`gateway.inspect.scan`), and what a document is
(`gateway.inspect.classify`).

    opened = open_zip(document, limits, max_members=1000)
"""
