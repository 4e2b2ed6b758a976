"""The `mpo` command: parse, run, exit status.

What it does is in `llm_bridge.command.commands`, which is imported after parsing, so that `--help` needs neither JAX
nor a device.

Exit status: 0 done; 2 bad input, one sentence on stderr; 3 stopped before the end, with a checkpoint; 130 interrupted;
143 told to stop by SIGTERM, with a checkpoint.
"""

import os
import sys
from collections.abc import Sequence

from llm_bridge.command.config_file import check_texts, expanded
from llm_bridge.command.options import ELSEWHERE, PROGRAM, REFUSED, Exploit, Run, Train, TrainJudge
from mmd.host.command_line import UsageError, parse, run_process, status_of
from mmd.host.doors import help_lines
from mmd.host.files import OutputError

TOLD_TO_STOP = (130, 143)


def main(argv: Sequence[str]) -> int:
    """Run a command line (without the program's name) and return the exit status."""

    def carry_out() -> int:
        words = expanded(argv)
        check_texts(words)
        _refuse_another_policy(words)
        command = parse(words, PROGRAM, elsewhere=ELSEWHERE)
        if command is None:
            sys.stdout.writelines(f"{line}\n" for line in help_lines(("methods", "magnets", "families", "judges")))
            return 0
        from llm_bridge.model.ranges import complaints

        for complaint in complaints(command):
            raise UsageError(complaint)
        if isinstance(command, Train | TrainJudge | Exploit) and not command.distributed:
            _refuse_a_folder_in_use(command)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would say that torch is missing, which is true
        from llm_bridge.command import commands

        return commands.run(command, argv)

    return status_of(carry_out, program="mpo")


def _refuse_a_folder_in_use(run: Run) -> None:
    """At once, before anything heavy is imported or loaded."""
    from mmd.host.folder_lock import refuse_if_held

    try:
        refuse_if_held(run.output_dir)
    except OutputError as error:
        raise UsageError(str(error)) from None


def _refuse_another_policy(words: Sequence[str]) -> None:
    """Say why training has no top-p and the like."""
    names = [word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words[1:] if word[:2] == "--"]
    if words and words[0] == "train" and (refused := [name for name in names if name in REFUSED]):
        raise UsageError(REFUSED[refused[0]])


def entry() -> None:
    """The console script."""
    run_process(_main, program="mpo")


def _main(argv: Sequence[str]) -> int:
    status = main(argv)
    if status in TOLD_TO_STOP:  # at once: threads that still wait for a judge are not waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
