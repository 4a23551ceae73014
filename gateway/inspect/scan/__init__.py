"""Whether something in a file is dangerous: antivirus, YARA rules, active content by format.

Here: findings. Not here: taking containers apart (`gateway.inspect.unpack`), and what a finding decides.
"""
