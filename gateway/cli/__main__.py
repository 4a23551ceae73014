"""`python -m gateway.cli`: what the supervisor starts roles with."""

from gateway.cli.app import main

main()
