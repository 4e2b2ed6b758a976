"""Why a run ends, as a table: what a check has found -> the status."""

import numpy as np
import pytest

from mmd.algorithms.contract import Limits
from mmd.measure.certificate import Certificate
from mmd.measure.solution import TRACE_COLUMNS, Status
from mmd.solving.stopping import Standing, why_to_stop

GOOD, FAIR, POOR = (Certificate(0.0, (gap, gap), scale=1.0, rounding=1e-16) for gap in (1e-13, 1e-6, 1e-1))
BLURRED = Certificate(0.0, (1e-4, 1e-4), scale=1.0, rounding=1e-3)  # above 2.5e-7 of the scale, below the rounding
NAN = float("nan")


def standing(
    certificates: tuple[Certificate, ...] = (), seconds: float = 0.0, moving: bool = False, **row: float
) -> Standing:
    found = dict.fromkeys(TRACE_COLUMNS, NAN) | {"iteration": 10.0, "exploitability": 0.1, "nash_conv": 0.2} | row
    return Standing(found, seconds, moving, certificates)


def limits(tolerance: float | None = None, time_limit: float | None = None, regularized: float = -np.inf) -> Limits:
    return Limits(tolerance, 100, time_limit, 10, regularized)


TABLE = {
    "nothing yet": (standing(), limits(), None),
    "not finite, whatever else": (standing((GOOD,), nash_conv=NAN, iteration=100.0), limits(), Status.NONFINITE),
    "at the default tolerance": (standing((GOOD,)), limits(), Status.CONVERGED),
    "above the default tolerance": (standing((FAIR,)), limits(), None),
    "at the tolerance that was asked for": (standing((FAIR,)), limits(1e-6), Status.CONVERGED),
    "a near row whose certificate disagrees": (standing((POOR,), exploitability=1e-9), limits(1e-6), None),
    "a far row is no promise": (standing(exploitability=0.0), limits(1e-6), None),
    "the second policy is near": (standing((POOR, GOOD)), limits(), Status.CONVERGED),
    "rounding hides the rest": (standing((BLURRED,)), limits(), Status.PRECISION),
    "the first to be believed decides": (standing((BLURRED, GOOD)), limits(), Status.PRECISION),
    "rounding is no excuse for a tolerance": (standing((BLURRED,)), limits(1e-6), None),
    "converged at the limit": (standing((GOOD,), iteration=100.0), limits(), Status.CONVERGED),
    "iterations": (standing(iteration=100.0), limits(), Status.ITERATION_LIMIT),
    "iterations, and a magnet under way": (standing(iteration=100.0, moving=True), limits(), Status.MAGNET_MOVING),
    "a magnet under way is no end": (standing(moving=True), limits(), None),
    "time": (standing(seconds=2.0), limits(time_limit=2.0), Status.TIME_LIMIT),
    "before its time": (standing(seconds=1.9), limits(time_limit=2.0), None),
    "iterations before time": (standing(seconds=2.0, iteration=100.0), limits(time_limit=2.0), Status.ITERATION_LIMIT),
    "the gap of a magnet that stays": (standing(regularized_gap=1e-9), limits(regularized=1e-9), Status.REGULARIZED),
    "the gap of one that moves": (standing(regularized_gap=0.0), limits(), None),
    "a gap that is asked for never": (standing(regularized_gap=-1e-18), limits(regularized=0.0), None),
}


@pytest.mark.parametrize("case", TABLE)
def test_why_a_run_ends(case: str) -> None:
    found, asked, status = TABLE[case]
    assert why_to_stop(found, asked) is status


def test_below_the_floor_of_the_arithmetic_all_is_rounding() -> None:
    """float32: its own NashConv, and its regularized gap, mean nothing below 1e-6 of the payoff range."""
    near = standing((POOR,), exploitability=1e-7)
    assert why_to_stop(near, limits(1e-9), floor=1e-6) is Status.PRECISION
    assert why_to_stop(near, limits(1e-9), floor=1e-8) is None
    arrived = standing(regularized_gap=5e-7)
    assert why_to_stop(arrived, limits(regularized=1e-12), floor=1e-6) is Status.PRECISION
    assert why_to_stop(arrived, limits(regularized=1e-4), floor=1e-6) is Status.REGULARIZED
