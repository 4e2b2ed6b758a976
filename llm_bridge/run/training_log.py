"""What a run says of itself: `metrics.jsonl`, `samples.jsonl`, trackers, progress on stderr.

`metrics.jsonl` has one JSON object a round, written when the round is done and never changed. A run that resumes first
drops the rounds after its checkpoint, which it is going to repeat, and half a line that a killed process may have left;
so each round stands there once. What is not a number is null. Round 0 is what was measured before the first one.
`samples.jsonl` has in the same way the answers that a win rate is made of. A tracker that fails is left out with a
warning, and the run goes on. Only the first process writes.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import jax

from llm_bridge.model.architecture import BridgeError
from llm_bridge.run.phases import Phases, is_of_a_clock
from llm_bridge.run.progress import Reporter
from llm_bridge.run.samples import Sample, table
from llm_bridge.run.trackers import NAMES, Tracker, tracker
from mmd.host.files import is_number

FILE, SAMPLES = "metrics.jsonl", "samples.jsonl"
EXPECTED = "expected one JSON object a line with a round; move it away"


class TrainingLog:
    """A run's log; a context manager.

    Args:
        folder: the run's directory.
        label: what is running.
        total: rounds in all.
        done: rounds that are behind; what was logged of later ones is dropped.
        trackers: which of `llm_bridge.run.trackers` are fed besides the file.
        quiet: show no progress.

    Attributes:
        phases: the run's clock.
        reporter: says how far the run is.
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
        self._folder, self._done, self._names = folder, done, trackers
        self._stack = ExitStack()
        self._file: TextIO | None = None
        self._samples: TextIO | None = None
        self._trackers: dict[str, Tracker] = {}
        self.phases = Phases()
        first = jax.process_index() == 0
        self.reporter = Reporter(label, total, done, self.phases, quiet=quiet or not first)

    def __enter__(self) -> "TrainingLog":
        self._stack.enter_context(self.phases)
        if jax.process_index() == 0:
            self._file = self._stack.enter_context(continued(self._folder / FILE, self._done))
            if (self._folder / SAMPLES).exists():
                self._samples = self._stack.enter_context(continued(self._folder / SAMPLES, self._done))
            made = {name: tracker(name, self._folder, self._done) for name in self._names}
            self._trackers = {name: one for name, one in made.items() if one is not None}
        self._stack.enter_context(self.reporter)
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
        self._append(self._file, FILE, [finite])
        told = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for name in [*self._trackers]:
            self._tracked(name, self._trackers[name].feed, number, told)
        self.reporter.round(number, metrics)

    def write_samples(self, number: int, samples: Sequence[Sample]) -> None:
        """Log the answers that a round's win rate is made of; a few of them are shown.

        Raises:
            BridgeError: the file cannot be written.
        """
        if self._file is None or not samples:
            return
        self._samples = self._samples or self._stack.enter_context(continued(self._folder / SAMPLES, self._done))
        self._append(self._samples, SAMPLES, [{"round": number} | sample._asdict() for sample in samples])
        shown = table(number, samples)
        for name in [*self._trackers]:
            self._tracked(name, self._trackers[name].feed_samples, number, shown)
        self.reporter.say(shown.rich())

    def _append(self, file: TextIO, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        try:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
            file.flush()
        except OSError as error:
            raise BridgeError(f"{self._folder / name}: cannot be written ({error.strerror})") from None

    def _tracked(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        """Do something with a tracker, which may fail."""
        try:
            action(*arguments)
        except Exception as error:
            del self._trackers[name]
            warnings.warn(f"{NAMES[name]} is no longer fed ({error})", stacklevel=3)


def rows(path: str | os.PathLike[str], *, times: bool = True) -> list[dict[str, Any]]:
    """The rounds of a `metrics.jsonl`; what a killed process left behind the last line end is none.

    Args:
        path: the file; there are no rounds where it is missing.
        times: with what a clock says; without, a run that is repeated has the same rows.

    Raises:
        BridgeError: it cannot be read, or holds something else.
    """
    try:
        found = [json.loads(line) for line in Path(path).read_bytes().split(b"\n")[:-1]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BridgeError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise BridgeError(f"{path}: {EXPECTED}") from None
    if not all(map(is_round, found)):
        raise BridgeError(f"{path}: {EXPECTED}")
    return [{k: v for k, v in row.items() if times or not is_of_a_clock(k)} for row in found]


def is_round(row: Any) -> bool:
    """Whether it can be a line of `metrics.jsonl`: a round's number and metrics, each a number or null."""
    known = isinstance(row, dict) and row.get("round") is not None
    return known and all(value is None or is_number(value) for value in row.values())


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
        raise BridgeError(f"{path}: {EXPECTED}") from None
