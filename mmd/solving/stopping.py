"""Why a run ends: a pure function of what a check has found, for both forms of an algorithm."""

from typing import NamedTuple

import numpy as np

from mmd.algorithms.contract import Limits
from mmd.measure.certificate import Certificate
from mmd.measure.solution import Status


class Standing(NamedTuple):
    """What a check has found of a run.

    Attributes:
        row: the newest row of the trace.
        seconds: of solving, when the row was measured.
        magnet_moving: whether the regularized game of now is solved and another one will follow.
        certificates: those of policies that may be returned, the first to be believed first; empty if all are far.
    """

    row: dict[str, float]
    seconds: float
    magnet_moving: bool = False
    certificates: tuple[Certificate, ...] = ()

    @property
    def is_finite(self) -> bool:
        """Whether the iterate still is; if not, nothing else in the row means anything."""
        return bool(np.isfinite(self.row["nash_conv"]))


def why_to_stop(standing: Standing, limits: Limits, floor: float = -np.inf) -> Status | None:
    """Why to stop now, or None to go on.

    Args:
        standing: what the newest check has found.
        limits: what was asked for.
        floor: exploitability, in payoff units, below which the arithmetic's NashConv is rounding noise.
    """
    if not standing.is_finite:
        return Status.NONFINITE
    for certificate in standing.certificates:
        if limits.reached(certificate):
            return Status.CONVERGED
        if limits.tolerance is None and certificate.unresolved:
            return Status.PRECISION
    if standing.row["exploitability"] <= floor:
        return Status.PRECISION
    if standing.row["regularized_gap"] <= gap_goal(limits, floor):
        return Status.REGULARIZED if limits.regularized_tolerance >= floor else Status.PRECISION
    return limit(standing, limits)


def gap_goal(limits: Limits, floor: float) -> float:
    """The regularized gap, in payoff units, at which a magnet that stays has been arrived at; -inf for never."""
    staying = limits.regularized_tolerance > 0  # at 0 the gap is rounding noise, of either sign
    return max(limits.regularized_tolerance, floor) if staying else -np.inf


def limit(standing: Standing, limits: Limits) -> Status | None:
    """The limit that a run is at, if any."""
    if standing.row["iteration"] >= limits.max_iterations:
        return Status.MAGNET_MOVING if standing.magnet_moving else Status.ITERATION_LIMIT
    if limits.time_limit is not None and standing.seconds >= limits.time_limit:
        return Status.TIME_LIMIT
    return None
