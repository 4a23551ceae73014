"""What commands share: options, output, the connection to the core, signing with a person's key.

Here: everything more than one command needs. Not here: a command.
"""
