"""The `clickmill` command: one file per subcommand, result on stdout, words on stderr, exit codes from the error tree.

The one place that may import other rooms (pipelines, serving, monitoring), and only inside the functions of its
subcommands, so that `clickmill --help` answers at once and a serving image needs no kfp.
"""

from clickmill.command.app import app, main

__all__ = ["app", "main"]
