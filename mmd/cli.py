"""The `mmd` command: parse, run, exit status.

What it does is in `mmd.commands`, which is imported after parsing, so that `--help` needs neither JAX nor a device.

Exit status: 0 reached the tolerance (or done); 2 bad input, one sentence on stderr; 3 stopped before the tolerance;
130 interrupted.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence

import tyro
from tyro.conf import FlagCreatePairsOff

from mmd.options import Command, UsageError

BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141


def main(argv: Sequence[str]) -> int:
    """Run a command line (without the program's name) and return the exit status."""
    try:
        command = _parse(argv)
        from mmd import commands

        return commands.run(command, argv)
    except UsageError as error:
        sys.stderr.write(f"mmd: {' '.join(str(error).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("mmd: interrupted\n")
        return INTERRUPTED


def entry() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal cannot show is no reason to fail
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except SystemExit as stop:  # --help
        status = stop.code
    sys.exit(status)


def _parse(argv: Sequence[str]) -> Command:
    """The command, or a `UsageError` with what the parser would have printed in a box."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                Command,
                prog="mmd",
                description="Certified Nash equilibria of two-player zero-sum games.",
                args=argv,
                config=(FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            raise UsageError(_sentence(box.getvalue())) from None
        raise


def _sentence(box: str) -> str:
    """First paragraph of a box drawn by the parser, and its suggestion if it makes one."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    rows = [line.strip(" │|") for line in plain.splitlines()[1:-1]]
    rule = next((i for i, row in enumerate(rows) if set(row) <= set("─-")), len(rows))
    sentence = " ".join(rows[:rule])
    suggestion = rows[rule + 1 : rule + 3]
    if suggestion and suggestion[0].startswith("Perhaps you meant"):
        sentence += f", perhaps you meant {suggestion[-1]}"
    return f"{sentence} (try --help)"
