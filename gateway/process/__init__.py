"""What every role does as a process: start, logging, notices to the supervisor, its sandbox.

Here: the operating system's side. Not here: what a role is for.
"""
