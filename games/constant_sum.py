"""Constant sum: whether the payoffs of two players sum to one number wherever a game ends, and what to say if not."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mmd.game.game import GameError

SUM_TOLERANCE = 1e-9  # of the payoff range, in the sum of both players' payoffs
ROUNDED = 0.01  # of the payoff range: sums that differ by less look like those of rounded payoffs


def constant_sum(
    name: str,
    payoffs: Float[np.ndarray, "Z 2"],
    where: Callable[[int], str],
    sum_tolerance: float | None = None,
) -> float:
    """The number to which both players' payoffs sum; 0 if it is as small as rounding.

    Args:
        name: the game's name, for the message.
        payoffs: [Z, 2] of each end of the game.
        where: a readable address of an end, given its number.
        sum_tolerance: how far apart the sums may be, in the units of the payoffs; the default is 1e-9 of the range.

    Raises:
        GameError: the sums differ; the message names the two ends that differ most.
    """
    sums = payoffs.sum(axis=1)
    low, high = int(sums.argmin()), int(sums.argmax())
    apart, scale = float(sums[high] - sums[low]), float(np.ptp(payoffs, axis=0).max())
    rounding = 8 * np.finfo(np.float64).eps * np.abs(payoffs).max()
    default = SUM_TOLERANCE * scale + rounding
    if apart > (default if sum_tolerance is None else sum_tolerance):
        hint = rounding_hint(apart, scale) or "; general-sum games cannot be solved here"
        raise GameError(
            f"{name}: expected payoffs with a constant sum, got the sum {sums[low]:.12g} {where(low)}, "
            f"and {sums[high]:.12g} {where(high)}, which differ by {apart:.3g}{hint}"
        )
    constant = float(sums[low] + sums[high]) / 2
    return constant if abs(constant) > default else 0.0


def rounding_hint(apart: float, scale: float) -> str:
    """What to do about sums that are nearly the same: numbers written with too few digits are the likely cause."""
    if not 0 < apart < ROUNDED * scale:
        return ""
    digit = 10.0 ** math.floor(math.log10(apart))
    return f"; if the numbers are rounded, allow it with #sum_tolerance={(math.floor(apart / digit) + 1) * digit:.0e}"
