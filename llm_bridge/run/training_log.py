"""What a run says of itself: `metrics.jsonl`, trackers, progress on stderr.

`metrics.jsonl` has one JSON object a round, written when the round is done and never changed. A run that resumes first
drops the rounds after its checkpoint, which it is going to repeat, and half a line that a killed process may have left;
so each round stands there once. What is not a number is null. A tracker that fails is left out with a warning, and the
run goes on. Only the first process writes.
"""

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_bridge.model.architecture import BridgeError
from llm_bridge.run.trackers import NAMES, Tracker, tracker

FILE = "metrics.jsonl"
SECONDS_BETWEEN_LINES = 10.0
SHOWN = ("loss", "kl/magnet", "entropy", "response_length", "judge/failed_frac", "accuracy", "skipped", "eval/win_rate")


class TrainingLog:
    """A run's log; a context manager.

    Args:
        folder: the run's directory.
        label: what is running.
        total: rounds in all.
        done: rounds that are behind; what was logged of later ones is dropped.
        trackers: which of `llm_bridge.run.trackers` are fed besides the file.
        quiet: show no progress.
    """

    def __init__(
        self,
        folder: Path,
        label: str,
        total: int,
        *,
        done: int = 0,
        trackers: tuple[str, ...] = (),
        quiet: bool = False,
    ):
        self._folder, self._label, self._total, self._done = folder, label, total, done
        self._names, self._quiet = trackers, quiet
        self._stack, self._file, self._bar = ExitStack(), None, None
        self._trackers: dict[str, Tracker] = {}
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "TrainingLog":
        if jax.process_index() == 0:
            self._file = self._stack.enter_context(continued(self._folder / FILE, self._done))
            made = {name: tracker(name, self._folder, self._done) for name in self._names}
            self._trackers = {name: one for name, one in made.items() if one is not None}
            if sys.stderr.isatty() and not self._quiet:
                self._bar = self._stack.enter_context(self._progress())
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._trackers]:
            self._tracked(name, self._trackers[name].close)
        self._stack.close()

    def write(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log a round.

        Raises:
            BridgeError: the file cannot be written.
        """
        if self._file is None:
            return
        row = {"round": number} | {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        try:
            self._file.write(json.dumps(finite) + "\n")
            self._file.flush()
        except OSError as error:
            raise BridgeError(f"{self._folder / FILE}: cannot be written ({error.strerror})") from None
        told = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for name in [*self._trackers]:
            self._tracked(name, self._trackers[name].feed, number, told)
        self._show(number, metrics)

    def _tracked(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """Do something with a tracker, which may fail."""
        try:
            action(*arguments)
        except Exception as error:
            del self._trackers[name]
            warnings.warn(f"{NAMES[name]} is no longer fed ({error})", stacklevel=3)

    def _show(self, number: int, metrics: Mapping[str, float]) -> None:
        report = ", ".join(f"{name} {metrics[name]:.3g}" for name in SHOWN if name in metrics)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=number, report=report)
        elif not self._quiet and (now - self._said >= SECONDS_BETWEEN_LINES or number == self._total):
            self._said = now
            pace = (now - self._began) / max(1, number - self._done)
            sys.stderr.write(f"{self._label}: round {number} of {self._total}, {report}, {pace:.3g} s a round\n")
            sys.stderr.flush()

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, TextColumn("{task.fields[report]}"), console=Console(stderr=True), transient=True)
        bar.add_task(self._label, total=self._total, completed=self._done, report="compiling")
        return bar


def rows(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rounds of a `metrics.jsonl`; what a killed process left behind the last line end is none."""
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def continued(path: Path, done: int) -> TextIO:
    """The file, cut off behind the round `done`, opened for what follows.

    Raises:
        BridgeError: it cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
        with file:
            file.seek(0)
            kept = 0
            for line in file:
                if not line.endswith(b"\n") or json.loads(line)["round"] > done:
                    break
                kept += len(line)
            file.truncate(kept)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise BridgeError(f"{path}: cannot be written ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise BridgeError(f"{path}: expected one JSON object a line with a round; move it away") from None
