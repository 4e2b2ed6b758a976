"""How far a run is, on stderr: a bar on a terminal, lines elsewhere; never silent for long.

A line is written when rounds are done, at most every ten seconds, and whenever a win rate has been measured. Where a
round takes longer a thread says what it is doing, after five seconds, ten, twenty and forty, then every minute; and for
how long it compiles, which is most of the first round's time.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_bridge.run.phases import ROUND_TIME, SECONDS, SPEED, Phases

SECONDS_BETWEEN_LINES = 10.0
SILENCE, LONGEST_SILENCE = 5.0, 60.0  # seconds of a round until something is said of it, and at most
WIN_RATE = "eval/win_rate"
SHOWN = ("loss", "kl/magnet", "entropy", "response_length", "judge/failed_frac", "accuracy", "skipped", WIN_RATE)
PARTS = ("generation", "judging", "update", "eval", "checkpoint", "compilation")
LAST_ROUNDS = 20  # whose pace says how much time is left


class Reporter:
    """Says how far a run is; a context manager.

    Args:
        label: what is running.
        total: rounds in all.
        done: rounds that are behind.
        phases: its clock.
        quiet: say nothing.
    """

    def __init__(self, label: str, total: int, done: int, phases: Phases, *, quiet: bool):
        self._label, self._total, self._done, self._phases, self._quiet = label, total, max(done, 0), phases, quiet
        self._bar: Progress | None = None
        self._behind, self._report = max(done, 0), ""
        self._said, self._silence = time.monotonic(), SILENCE
        self._compiling: str | None = None  # a phase of which a line has said that it is compiled
        self._ends = deque([time.monotonic()], maxlen=LAST_ROUNDS)
        self._writing, self._over, self._stack = threading.RLock(), threading.Event(), ExitStack()

    def __enter__(self) -> "Reporter":
        if not self._quiet:
            if sys.stderr.isatty():
                self._bar = self._stack.enter_context(self._made())
            threading.Thread(target=self._tick, name="progress", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._writing:
            self._stack.close()

    def round(self, number: int, metrics: Mapping[str, float]) -> None:
        """A round is done; `number` counts those that are, and is that of no new one where it was measured again."""
        now = time.monotonic()
        if number <= self._done or (number == self._done + 2 and len(self._ends) == 2):
            self._ends.popleft()  # what was before the first round, and the first, which compiles
        self._ends.append(now)
        with self._writing:
            self._behind, self._report = number, self._text(metrics)
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=number, report=self._report)
            told = WIN_RATE in metrics and number != self._total  # the last one is told when the run is done
            due = now - self._said >= SECONDS_BETWEEN_LINES or number == self._total
            if told or (due and self._bar is None):
                where = f"round {number} of {self._total}" if number else "before round 1, one model against itself"
                self.say(f"{where}, {self._report}{self._pace(number)}")
            self._silence = SILENCE

    def say(self, text: str | RenderableType) -> None:
        """Write a line, or a table."""
        if self._quiet:
            return
        with self._writing:
            if isinstance(text, str):
                text, self._said = f"{self._label}: {text}", time.monotonic()
            if self._bar is not None:
                self._bar.console.print(text, markup=False, highlight=False)
            elif isinstance(text, str):
                sys.stderr.write(f"{text}\n")
            else:
                Console(file=sys.stderr, width=None if sys.stderr.isatty() else 120).print(text)
            sys.stderr.flush()

    def _text(self, metrics: Mapping[str, float]) -> str:
        """Of a round: what it learned, and where its time went."""
        found = [f"{name} {metrics[name] + 0.0:.3g}" for name in SHOWN if name in metrics]  # -0 is 0
        if f"{WIN_RATE}_low" in metrics:
            found[-1] += " [{:.3g}, {:.3g}]".format(*(metrics[f"{WIN_RATE}_{side}"] for side in ("low", "high")))
        if ROUND_TIME in metrics:
            parts = [f"{part} {metrics[SECONDS + part]:.2g}" for part in PARTS if metrics.get(SECONDS + part, 0) > 0]
            found.append(f"{metrics[ROUND_TIME]:.3g} s" + f" ({', '.join(parts)})" * bool(parts))
        found += [f"{metrics[SPEED + part]:.0f} tokens/s of {part}" for part in PARTS if SPEED + part in metrics]
        return ", ".join(found)

    def _pace(self, number: int) -> str:
        """Seconds a round, and what is left of the run; nothing before there is a round."""
        if not number:
            return ""
        pace = (self._ends[-1] - self._ends[0]) / max(1, len(self._ends) - 1)
        left = f", {duration(pace * (self._total - number))} left" if number < self._total else ""
        return f", {pace:.3g} s a round{left}"

    def _tick(self) -> None:
        """By a thread of its own."""
        while not self._over.wait(1.0):
            self._tick_once()

    def _tick_once(self) -> None:
        """Say what is going on, where it is time to."""
        doing = self._phases.doing()
        with self._writing:
            if self._over.is_set():
                return
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], report=f"{doing}  {self._report}".strip())
                return
            if self._compiling and doing.compiling is None:
                self.say(f"compiling the {self._compiling} is done")
                self._compiling = None
            if str(doing) and time.monotonic() - self._said >= self._silence:
                self.say(f"round {min(self._behind + 1, self._total)} of {self._total}, {doing}")
                self._silence = min(2 * self._silence, LONGEST_SILENCE)
                self._compiling = doing.phase if doing.compiling is not None else None

    def _made(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, TextColumn("{task.fields[report]}"), console=Console(stderr=True), transient=True)
        bar.add_task(self._label, total=self._total, completed=self._done, report="")
        return bar


def duration(seconds: float) -> str:
    """As in "42 s", "12 min" or "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
