"""The `mmd` command: parse, run, exit status.

What it does is in `mmd.command.commands`, which is imported after parsing, so that `--help` needs neither JAX nor a
device.

Exit status: 0 reached the tolerance (or done); 2 bad input, one sentence on stderr; 3 stopped before the tolerance;
130 interrupted.
"""

import sys
from collections.abc import Sequence

from mmd.command.options import PROGRAM
from mmd.host.command_line import parse, run_process, status_of
from mmd.host.doors import help_lines


def main(argv: Sequence[str]) -> int:
    """Run a command line (without the program's name) and return the exit status."""

    def carry_out() -> int:
        command = parse(argv, PROGRAM)
        if command is None:
            sys.stdout.writelines(f"{line}\n" for line in help_lines(("games", "algorithms", "magnets")))
            return 0
        from mmd.command import commands

        return commands.run(command, argv)

    return status_of(carry_out, program="mmd")


def entry() -> None:
    """The console script."""
    run_process(main, program="mmd")
