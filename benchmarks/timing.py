"""Timing a step, with nothing but the standard library: it also runs in the environments of other solvers."""

import time
from collections.abc import Callable


def seconds_per_step(run: Callable[[int], None], at_least: float = 0.25) -> float:
    """Time `run(n_steps)` for long enough to trust the clock.

    Args:
        run: advances by a number of steps.
        at_least: seconds that the timed run has to take.
    """
    n_steps = 1
    while True:
        begun = time.perf_counter()
        run(n_steps)
        elapsed = time.perf_counter() - begun
        if elapsed >= at_least:
            return elapsed / n_steps
        n_steps = int(n_steps * min(10, max(2, 1.2 * at_least / max(elapsed, 1e-9))))
