"""The commands, one module a group, imported when they are asked for.

Here: arguments, options, and how an answer is shown. A new command is a function with
`@command(group, act=…)` in its group's module; a new group is also a line in `gateway.cli.app`.
Not here: what commands share (`gateway.cli.support`; `command` has an example).
"""
