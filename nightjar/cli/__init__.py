"""The command `nightjar`: one verb for each of the jobs, imported when it is called."""

from nightjar.cli.verbs import main

__all__ = ["main"]
