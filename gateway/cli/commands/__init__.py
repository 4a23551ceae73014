"""The commands, one module a group, imported when they are asked for.

Here: arguments, options, and how an answer is shown. Not here: what commands share (`gateway.cli.support`).
"""
