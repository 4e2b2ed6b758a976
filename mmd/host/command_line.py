"""What the commands `mmd` and `mpo` share: parsing with one sentence for bad input, and how a process ends.

Imports nothing heavy, so that `--help` needs neither JAX nor a device. Exit status: 0 done; 2 bad input, one sentence
on stderr; 130 interrupted; 141 nobody reads the output.
"""

import contextlib
import difflib
import gc
import io
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast, get_type_hints

from mmd.host import help as help_text
from mmd.host.help import Program
from mmd.host.interruption import INTERRUPTED, INTERRUPTION
from mmd.host.marks import marked

if TYPE_CHECKING:
    from tyro.constructors import StructConstructorSpec

# What the parser says of a text where a number may stand.
NO_TYPE = r"no type matching \{None\}\|(\w+) could be instantiated from \['(.*)'\]\."
OPTION_HELP = r"[│|]? {8}"  # what stands below the name of a missing option
TRANSLATED = ", which is "  # before the option here for one that another program has
HELP, NONE = {"-h", "--help"}, MappingProxyType({})
BAD_INPUT, BROKEN_PIPE = 2, 141


class UsageError(ValueError):
    """A command line that cannot be carried out; the message says why."""


def parse(argv: Sequence[str], program: Program, *, elsewhere: Mapping[str, Sequence[str]] = NONE) -> Any | None:
    """A command line as one of a program's dataclasses; None if it was to print help, which is done.

    Args:
        argv: the command line, without the program's name.
        program: its commands, and what help says.
        elsewhere: see `hint`.

    Raises:
        UsageError: it is none; with what the parser would have printed in a box.
    """
    box = io.StringIO()
    if _helped(argv, program):
        return None
    _check_options(argv, program, elsewhere)
    try:
        with contextlib.redirect_stderr(box):
            return _parsed(argv, program)
    except SystemExit:
        raise UsageError(_sentence(box.getvalue())) from None


def _parsed(argv: Sequence[str], program: Program) -> Any:
    """A command line as one of a program's dataclasses, by tyro."""
    import tyro
    from tyro.conf import FlagCreatePairsOff, subcommand
    from tyro.constructors import ConstructorRegistry

    commands, constructors = program.commands, ConstructorRegistry()
    constructors.struct_rule(lambda info: _with_its_marks(info.type) if info.type in commands.values() else None)
    kinds: Any = reduce(or_, (Annotated[kind, subcommand(name=name)] for name, kind in commands.items()))
    with constructors:  # tyro 1.0 reads a command's fields after it has left its own block
        return tyro.cli(kinds, prog=program.name, args=argv, config=(FlagCreatePairsOff,))


def _with_its_marks(command: Any) -> "StructConstructorSpec":
    """A command's fields, with tyro's marks for ours."""
    from tyro.conf import Positional, arg
    from tyro.constructors import MISSING_NONPROP, StructConstructorSpec, StructFieldSpec

    hints, found = get_type_hints(command, include_extras=True), []
    for field in fields(command):
        kind, shown, is_positional = marked(hints[field.name])
        told: Any = Annotated[kind, arg(name=shown.name, metavar=shown.metavar)]
        default = MISSING_NONPROP if field.default is MISSING else field.default
        found.append(StructFieldSpec(field.name, cast("Any", Positional[told]) if is_positional else told, default))
    return StructConstructorSpec(command, tuple(found))


def _helped(argv: Sequence[str], program: Program) -> bool:
    """Print the help that was asked for, if any was."""
    if HELP.isdisjoint(argv):
        return False
    own = argv[0] in program.commands
    if not own and not argv[0].startswith("-"):
        raise UsageError(_no_command(argv[0], program.commands))
    lines = help_text.of_command(program, argv[0]) if own else help_text.overview(program)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return True


def _no_command(word: str, commands: Mapping[str, type]) -> str:
    near = difflib.get_close_matches(word, commands, n=1)
    meant = f", perhaps you meant {near[0]}" if near else f": expected {', '.join(commands)}"
    return f"there is no command {word!r}{meant} (try --help)"


def _check_options(argv: Sequence[str], program: Program, elsewhere: Mapping[str, Sequence[str]]) -> None:
    """That there is such a subcommand and that the options are its own; the parser would suggest those of others."""
    commands = program.commands
    if not argv or argv[0].startswith("-"):
        return
    if argv[0] not in commands:
        raise UsageError(_no_command(argv[0], commands))
    for word in argv[1:]:
        name = word.partition("=")[0]
        if re.match("--[A-Za-z]", word) and _plain(name) not in (known := options_of(commands[argv[0]])):
            others = [f"{program.name} {other}" for other in commands if _plain(name) in options_of(commands[other])]
            of_others = f"; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
            meant = hint(name, known, elsewhere)
            said = of_others if others and not meant.startswith(TRANSLATED) else meant
            raise UsageError(f"{argv[0]} has no option {name}{said} (try --help)")


def options_of(command: type) -> dict[str, str]:
    """A command's options, as they are typed but with _ for -, and their names in its dataclass.

    What is given by its place is none. The two names differ where the first is no name in Python, as `from` is none.
    """
    found, hints = {}, get_type_hints(command, include_extras=True)
    for field in fields(command):
        _, shown, is_positional = marked(hints[field.name])
        if not is_positional:
            found[shown.name or field.name] = field.name
    return found


def hint(name: str, known: Iterable[str], elsewhere: Mapping[str, Sequence[str]] = NONE) -> str:
    """What was probably meant by an option that does not exist; "" if nothing is near.

    Args:
        name: as it was typed.
        known: the options that exist.
        elsewhere: of names that other programs have, what is typed here, the best first; the first of which every
            option exists is said.
    """
    for typed in elsewhere.get(_plain(name), ()):
        if all(_plain(option) in known for option in re.findall(r"--[a-z-]+", typed)):
            return f"{TRANSLATED}{typed} here"
    near = difflib.get_close_matches(_plain(name), known, n=1)
    return f", perhaps you meant --{near[0].replace('_', '-')}" if near else ""


def _plain(name: str) -> str:
    """An option's name as a dataclass has it."""
    return name.removeprefix("--").replace("-", "_")


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
    """First paragraph of a box drawn by the parser (in Unicode or ASCII)."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]
    rows = [row.strip(" │|") for row in plain if not re.match(OPTION_HELP, row)]
    ruled = itertools.groupby(rows, key=lambda row: row.strip("─-╰╯") != "")
    first = next(list(paragraph) for is_text, paragraph in ruled if is_text)
    first = [first[0], ", ".join(first[1:])] if first[0].startswith("Missing from") else first
    sentence = re.sub(NO_TYPE, r"expected a number (\1), got \2", " ".join(first))
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
