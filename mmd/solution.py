"""What `solve` returns: the policy, its certificate, how it was found, and the trace of the run."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from jaxtyping import Float

from mmd.certificate import Certificate
from mmd.game import Game
from mmd.policy import Policy


class Status(Enum):
    """Why a run ended. The value is the sentence that users read."""

    CONVERGED = "converged: the exploitability of the returned policy is at most the tolerance"
    REGULARIZED = (
        "converged to the equilibrium of the regularised game only: "
        "the exploitability in the original game is above the tolerance"
    )
    ITERATION_LIMIT = "stopped at the iteration limit before the exploitability reached the tolerance"
    TIME_LIMIT = "stopped at the time limit before the exploitability reached the tolerance"
    PRECISION = "stopped at the rounding floor of float32, above the tolerance: use float64 to go further"
    NONFINITE = "stopped because the iterate was no longer finite; the policy is the last finite one"
    INTERRUPTED = "interrupted by the user; the policy is the one reached so far"


TRACE_COLUMNS = (
    "iteration",
    "gradient_evaluations",
    "seconds",
    "exploitability",
    "nash_conv",
    "regularized_gap",
    "value",
    "average_exploitability",
)


@dataclass(frozen=True)
class Certified:
    """A policy, which iterate it is, and its certificate."""

    policy: Policy
    iterate: str
    certificate: Certificate


@dataclass(frozen=True, repr=False)
class Trace:
    """One row a check, as columns.

    Attributes:
        columns: `TRACE_COLUMNS` -> [checks]. Exploitability is that of the policy that would be returned at that check;
            NaN where an algorithm has no such quantity. Seconds are solve time, compilation apart.
    """

    columns: dict[str, Float[np.ndarray, " checks"]]

    def __repr__(self) -> str:
        return f"Trace({len(self)} checks of {', '.join(self.columns)})"

    def __getitem__(self, column: str) -> Float[np.ndarray, " checks"]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns["iteration"])


@dataclass(frozen=True, repr=False)
class Solution:
    """A policy profile with its certificate.

    Attributes:
        game: what was solved.
        algorithm: name and resolved hyper-parameters.
        policy: the returned policies of both players.
        iterate: which iterate they are: "last", "average" or "polished".
        status: why the run ended, as a sentence; `converged` is whether the tolerance was reached.
        tolerance: bound asked of the exploitability, in payoff units.
        value: payoff of the row player under the policy, in the units of the input.
        nash_conv: sum of both players' best-response gains, from `mmd.certificate` (float64, independent code).
        exploitability: nash_conv / 2.
        regularized_gap: duality gap of the regularised game at the last iterate; None where there is none.
        iterations, gradient_evaluations: how much work (one evaluation = one pair A y, A^T x), the polish's included.
        seconds: {"compile", "solve"}.
        dtype: of the iteration; certificates are always float64.
        trace: the algorithm's run, check by check; a polished policy is not in it.
        polish: what the polish did, None if it was not tried: its `tries` (at which iteration; gradient evaluations
            and seconds of the run when it ended; how many faces it guessed; NashConv before and after), the
            `gradient_evaluations` and `seconds` they took together, and `modelled_seconds`, which its budget counts.
    """

    game: Game
    algorithm: dict[str, Any]
    policy: Policy
    iterate: str
    status: Status
    tolerance: float
    value: float
    nash_conv: float
    regularized_gap: float | None
    iterations: int
    gradient_evaluations: int
    seconds: dict[str, float]
    dtype: str
    trace: Trace
    polish: dict[str, Any] | None = field(default=None)

    def __repr__(self) -> str:
        return (
            f"Solution({self.game.name} by {self.algorithm['name']}: value {self.value:.10g}, exploitability "
            f"{self.exploitability:.2e} ({self.iterate} iterate); {self.status.value})"
        )

    @property
    def exploitability(self) -> float:
        """NashConv / 2."""
        return self.nash_conv / 2

    @property
    def converged(self) -> bool:
        """Whether the certified exploitability is at most the tolerance."""
        return self.status is Status.CONVERGED
