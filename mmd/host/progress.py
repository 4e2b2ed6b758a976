"""Progress of a run, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from mmd.host.interruption import INTERRUPTION

SECONDS_BETWEEN_LINES = 2.0
BAR_WIDTH = 12  # leaves room for the numbers on a terminal of 80 columns

OnCheck = Callable[[dict[str, float]], None]


@contextmanager
def progress(
    label: str, max_iterations: int, before: str = "compiling", *, quiet: bool = False
) -> Iterator[OnCheck | None]:
    """What `mmd.solve` should call after each check.

    Args:
        label: what is running.
        max_iterations: the length of the bar.
        before: what is done before the first check; said with its seconds.
        quiet: report nothing.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(label, max_iterations, before) as on_check:
            yield on_check
    else:
        with _lines(label, before) as on_check:
            yield on_check


@contextmanager
def interruptible(on_check: OnCheck | None) -> Iterator[OnCheck]:
    """An `on_check` that raises KeyboardInterrupt once Ctrl-C was pressed: between two chunks, where nothing is lost.

    Python itself raises it wherever it stands, also inside callbacks of the garbage collector, which swallow it. A
    second Ctrl-C does that. Before the first chunk is done there is nothing to lose, and a command ends at once
    (`mmd.host.interruption`).
    """
    pressed: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    def check(row: dict[str, float]) -> None:
        INTERRUPTION.patient = True
        if on_check is not None:
            on_check(row)
        if pressed:
            raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    before = signal.signal(signal.SIGINT, remember) if in_main else None
    try:
        yield check
    finally:
        INTERRUPTION.patient = bool(pressed)  # then what there is will be saved and said
        if in_main:
            signal.signal(signal.SIGINT, before)


class _Said(ProgressColumn):
    """What a task reports; before it reports anything, for how long it has been compiling."""

    def render(self, task: Task) -> Text:
        """The text of the column."""
        return Text(task.fields["report"] or f"{task.fields['before']} {task.elapsed or 0:.0f} s")


@contextmanager
def _bar(label: str, max_iterations: int, before: str) -> Iterator[OnCheck]:
    columns = (TextColumn("{task.description}"), BarColumn(BAR_WIDTH), _Said())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars, INTERRUPTION.leaving(bars.stop):
        task = bars.add_task(label, total=max_iterations, report="", before=before)

        def on_check(row: dict[str, float]) -> None:
            bars.update(task, completed=row["iteration"], report=_report(row))

        yield on_check


@contextmanager
def _lines(label: str, before: str) -> Iterator[OnCheck]:
    begun = printed = time.monotonic()
    waits: list[str] = []

    def say(text: str) -> None:
        sys.stderr.write(f"{label}: {text}\n")
        sys.stderr.flush()

    def wait() -> None:
        waits.append(before)
        say(f"{before} ...")

    waiting = threading.Timer(SECONDS_BETWEEN_LINES, wait)  # the main thread is busy until the first check

    def on_check(row: dict[str, float]) -> None:
        nonlocal printed
        waiting.cancel()
        if waits:
            say(f"{waits.pop()} took {time.monotonic() - begun:.1f} s")
        if time.monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            say(_report(row))

    waiting.daemon = True
    waiting.start()
    try:
        yield on_check
    finally:
        waiting.cancel()


def _report(row: dict[str, float]) -> str:
    rate = row["iteration"] / row["seconds"] if row["seconds"] > 0 else 0.0
    return f"iteration {row['iteration']:,.0f}, exploitability {row['exploitability']:.2e}, {rate:,.0f} it/s"
