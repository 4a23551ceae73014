"""Whether something in a file is dangerous: antivirus, YARA rules, active content by format.

Here: findings. Not here: how a format is laid out (`gateway.inspect.formats`),
containers (`gateway.inspect.unpack`), and what a finding decides.

    examination, attachments = pdf.scan(document, limits)
"""
