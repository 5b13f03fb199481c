"""Subcommands of the command line, each in a module with `add(commands)`."""
