"""What commands share: how one is made, options, output, the connection to the core, a person's signature.

Here: everything more than one command needs.
Not here: a command (`gateway.cli.commands`).
"""
