"""Memory: what a sequence form takes to build, and a refusal before a machine runs out of it."""

import math
import os
from contextlib import suppress
from pathlib import Path

from mmd.game.game import GameError

BYTES_PER_PAYOFF = 135  # peak while `Game.from_entries` sorts them, 121 to 131 measured; iterating takes less
GIB = 2**30
COMPILER_PER_PAYOFF, COMPILER = 140, 3.5 * GIB  # what XLA takes of a large tree's program grows no further
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def estimated_bytes(n_payoffs: int) -> int:
    """Peak memory of building a game of so many payoffs and solving it (`benchmarks.device.scale` measures it)."""
    return int(BYTES_PER_PAYOFF * n_payoffs + min(COMPILER_PER_PAYOFF * n_payoffs, COMPILER))


def check_memory(name: str, n_payoffs: int) -> None:
    """Refuse a game that this machine cannot build and solve.

    Args:
        name: the game's name, for the message.
        n_payoffs: number of payoffs of its sequence form.

    Raises:
        GameError: the estimate exceeds the memory of the machine.
    """
    needed, there = estimated_bytes(n_payoffs), machine_memory()
    if needed > there:
        raise GameError(
            f"{name} has {n_payoffs:.3g} payoffs and needs about {needed / GIB:.3g} GiB to build and solve, "
            f"but this machine has {there / GIB:.3g} GiB: try a smaller game"
        )


def machine_memory() -> float:
    """Bytes of memory that a process here may use: the machine's, or its container's; infinite where unknown."""
    limits = [math.inf]
    with suppress(AttributeError, OSError, ValueError):  # no sysconf on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # "max" where there is no limit
            limits.append(int(Path(path).read_text("ascii")))
    return float(min(limits))
