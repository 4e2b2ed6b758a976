"""Where the time of a run goes: seconds and tokens by phase, and for how long something has been compiled.

A phase is what `llm_bridge.train` says of a round ("generation", "judging", "update"), or what happens between rounds
("eval", "checkpoint"). What XLA compiles is none of them, wherever it is called from: it has seconds of its own, so
that tokens per second are those of a program that is there.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax

EVAL, CHECKPOINT, COMPILATION = "eval", "checkpoint", "compilation"
ROUND_TIME, SECONDS, SPEED = "step_time", "timing_s/", "tokens_per_second/"  # TRL's name, and verl's
LOWERED, COMPILED = "/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration"


def is_of_a_clock(name: str) -> bool:
    """Whether a metric says how long something took: no two runs have the same."""
    return name == ROUND_TIME or name.startswith((SECONDS, SPEED))


class Doing(NamedTuple):
    """What a run is doing.

    Attributes:
        phase: its name; None between phases.
        seconds: for how long.
        compiling: for how many seconds it has been compiling; None where it is not.
        usual: how many seconds the phase took when it was there before; None where it was not.
    """

    phase: str | None
    seconds: float
    compiling: float | None
    usual: float | None

    @property
    def left(self) -> float | None:
        """Seconds until it is over, if it is as long as it was before."""
        return None if self.usual is None or self.compiling is not None else max(0.0, self.usual - self.seconds)

    def __str__(self) -> str:
        """As in "compiling the update ... 12 s" and "generation ... 12 s of about 40"; "" between phases."""
        if self.phase is None:
            return ""
        if self.compiling is not None:
            return f"compiling the {self.phase} ... {self.compiling:.0f} s"
        about = f" of about {self.usual:.0f}" if self.usual is not None and self.usual >= 2 else ""
        return f"{self.phase} ... {self.seconds:.0f} s{about}"


class Phases:
    """The clock of a run; a context manager, inside which compilation is heard of."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tokens: Counter[str] = Counter()
        self._usual: dict[str, float] = {}
        self._phase: str | None = None
        self._compiling_here = 0.0  # seconds of the phase that were compilation
        self._compiling: float | None = None
        self._lap = self._since = self._counted = time.monotonic()

    def __enter__(self) -> "Phases":
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._hear)

    def begin(self, phase: str | None) -> None:
        """A phase begins, and the one before is over; None for none."""
        self._count()
        if self._phase is not None:
            self._usual[self._phase] = self._counted - self._since - self._compiling_here
        self._phase, self._since = phase, self._counted
        self._compiling, self._compiling_here = None, 0.0

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Inside is the phase; after it is none."""
        self.begin(phase)
        try:
            yield
        finally:
            self.begin(None)

    def count(self, phase: str, tokens: int) -> None:
        """So many tokens more went through a phase."""
        self._tokens[phase] += tokens

    def doing(self) -> Doing:
        """What is done now; any thread may ask."""
        now, phase, compiling = time.monotonic(), self._phase, self._compiling
        usual = None if phase is None else self._usual.get(phase)
        return Doing(phase, now - self._since, None if compiling is None else now - compiling, usual)

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap, in all and by phase, and tokens per second, as metrics; a new lap begins.

        `step_time` is the whole, `timing_s/PHASE` a part of it, and `tokens_per_second/PHASE` the tokens of that part.
        """
        self._count()
        found = {ROUND_TIME: self._counted - self._lap}
        found |= {f"{SECONDS}{phase}": seconds for phase, seconds in self._seconds.items()}
        speeds = {phase: (n, self._seconds[phase]) for phase, n in self._tokens.items()}
        found |= {f"{SPEED}{phase}": n / seconds for phase, (n, seconds) in speeds.items() if seconds > 0}
        self._seconds.clear()
        self._tokens.clear()
        self._lap = self._counted
        return found

    def _count(self) -> None:
        """The seconds since the last count are those of the phase that is."""
        now = time.monotonic()
        if self._phase is not None:
            self._seconds[self._phase] += now - self._counted
        self._counted = now

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """What JAX says has just ended."""
        if event == LOWERED:
            self._compiling = time.monotonic()
        elif event == COMPILED:
            self._compiling = None
            if self._phase is not None:
                self._seconds[COMPILATION] += duration_secs
                self._seconds[self._phase] -= duration_secs
                self._compiling_here += duration_secs
