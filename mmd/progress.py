"""Progress of a run: a bar on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 2.0

OnCheck = Callable[[dict[str, float]], None]


@contextmanager
def progress(label: str, max_iterations: int, stream: TextIO | None) -> Iterator[OnCheck | None]:
    """What `mmd.solve` should call after each check.

    Args:
        label: what is running.
        max_iterations: the length of the bar.
        stream: where to report; nowhere if None.
    """
    if stream is None:
        yield None
    elif stream.isatty():
        with _bar(label, max_iterations, stream) as on_check:
            yield on_check
    else:
        yield _lines(label, stream)


@contextmanager
def _bar(label: str, max_iterations: int, stream: TextIO) -> Iterator[OnCheck]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[report]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bars:
        task = bars.add_task(label, total=max_iterations, report="compiling")

        def on_check(row: dict[str, float]) -> None:
            bars.update(task, completed=row["iteration"], report=_report(row))

        yield on_check


def _lines(label: str, stream: TextIO) -> OnCheck:
    printed = time.monotonic()

    def on_check(row: dict[str, float]) -> None:
        nonlocal printed
        if time.monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            stream.write(f"{label}: {_report(row)}\n")
            stream.flush()

    return on_check


def _report(row: dict[str, float]) -> str:
    rate = row["iteration"] / row["seconds"] if row["seconds"] > 0 else 0.0
    return f"iteration {row['iteration']:,.0f}, exploitability {row['exploitability']:.2e}, {rate:,.0f} iterations/s"
