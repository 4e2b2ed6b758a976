"""Progress of a run, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

SECONDS_BETWEEN_LINES = 2.0
BAR_WIDTH = 12  # leaves room for the numbers on a terminal of 80 columns

OnCheck = Callable[[dict[str, float]], None]


@contextmanager
def progress(label: str, max_iterations: int, *, quiet: bool = False) -> Iterator[OnCheck | None]:
    """What `mmd.solve` should call after each check.

    Args:
        label: what is running.
        max_iterations: the length of the bar.
        quiet: report nothing.
    """
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar(label, max_iterations) as on_check:
            yield on_check
    else:
        yield _lines(label)


@contextmanager
def _bar(label: str, max_iterations: int) -> Iterator[OnCheck]:
    columns = (TextColumn("{task.description}"), BarColumn(BAR_WIDTH), TextColumn("{task.fields[report]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=max_iterations, report="compiling")

        def on_check(row: dict[str, float]) -> None:
            bars.update(task, completed=row["iteration"], report=_report(row))

        yield on_check


def _lines(label: str) -> OnCheck:
    printed = time.monotonic()

    def on_check(row: dict[str, float]) -> None:
        nonlocal printed
        if time.monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            sys.stderr.write(f"{label}: {_report(row)}\n")
            sys.stderr.flush()

    return on_check


def _report(row: dict[str, float]) -> str:
    rate = row["iteration"] / row["seconds"] if row["seconds"] > 0 else 0.0
    return f"iteration {row['iteration']:,.0f}, exploitability {row['exploitability']:.2e}, {rate:,.0f} it/s"
