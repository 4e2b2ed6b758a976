"""What the commands `mmd` and `mpo` share: parsing with one sentence for bad input, and how a process ends.

Imports nothing heavy, so that `--help` needs neither JAX nor a device. Exit status: 0 done; 2 bad input, one sentence
on stderr; 130 interrupted; 141 nobody reads the output.
"""

import contextlib
import gc
import io
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro
from tyro.conf import FlagCreatePairsOff

from mmd.interruption import INTERRUPTED, INTERRUPTION

# What the parser says of a text where a number may stand.
NO_TYPE = r"no type matching \{None\}\|(\w+) could be instantiated from \['(.*)'\]\."
OPTION_HELP = r"[│|]? {8}"  # what stands below the name of a missing option
BAD_INPUT, BROKEN_PIPE = 2, 141


class UsageError(ValueError):
    """A command line that cannot be carried out; the message says why."""


def parse(kind: Any, argv: Sequence[str], *, program: str, description: str) -> Any | None:
    """A command line as one of the dataclasses of `kind`; None if it was to print help, which is done.

    Raises:
        UsageError: it is none; with what the parser would have printed in a box.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, prog=program, description=description, args=argv, config=(FlagCreatePairsOff,))
    except SystemExit as stop:
        if stop.code:
            raise UsageError(_sentence(box.getvalue())) from None
        return None


def status_of(action: Callable[[], int], *, program: str) -> int:
    """Carry out a command; bad input and interruption become a line on stderr and an exit status."""
    try:
        return action()
    except UsageError as error:
        sys.stderr.write(f"{program}: {' '.join(str(error).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return INTERRUPTED


def run_process(main: Callable[[Sequence[str]], int], *, program: str) -> NoReturn:
    """Be the console script of a command called `program`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal cannot show is no reason to fail
    _keep_compiled_programs()
    gc.set_threshold(100_000)  # imports and tracing make much and drop little: collecting at each 700 takes 0.2 s
    try:
        with INTERRUPTION.heard(program):
            status = main(sys.argv[1:])
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    sys.exit(status)


def _keep_compiled_programs() -> None:
    """Let JAX keep what it compiles in the user's cache folder, so that a known shape starts at once next time.

    `JAX_COMPILATION_CACHE_DIR` says where else; set to nothing it keeps nothing.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magnetic-mirror" / "jax"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(OSError, RuntimeError):  # no home, or nowhere to write: compile every time
            cache.mkdir(parents=True, exist_ok=True)
            if os.access(cache, os.W_OK):
                os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
                os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _sentence(box: str) -> str:
    """First paragraph of a box drawn by the parser (in Unicode or ASCII), and its suggestion if it makes one."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]
    rows = [row.strip(" │|") for row in plain if not re.match(OPTION_HELP, row)]
    ruled = itertools.groupby(rows, key=lambda row: row.strip("─-╰╯") != "")
    first, *others = [list(paragraph) for is_text, paragraph in ruled if is_text]
    first = [first[0], ", ".join(first[1:])] if first[0].startswith("Missing from") else first
    sentence = re.sub(NO_TYPE, r"expected a number (\1), got \2", " ".join(first))
    for title, *suggestions in others:
        if title.startswith("Perhaps you meant"):
            sentence += f", perhaps you meant {suggestions[0]}"
    return f"{sentence} (try --help)"


def rate_and_power(text: str) -> tuple[float, float | None]:
    """The numbers of `--magnet moving=RATE` or `moving=RATE,power=POWER`.

    Raises:
        ValueError: it says something else.
    """
    first, more, second = text.partition(",power=")
    rate, power = float(first), float(second) if more else None
    if not 0 < rate <= 1 or not (power is None or 0 <= power < math.inf):
        raise ValueError(text)
    return rate, power
