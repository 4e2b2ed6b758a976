"""How fast a run fell: the rate of a line through its distances on a logarithmic axis, beside the rate that is proven.

A distance that falls linearly, d_k = c exp(-rate k), is a straight line where its axis is logarithmic. `linear_rate`
looks for the stretch of a run that is straight and says so where there is none: a run begins with a transient, ends in
rounding, and may fall like a power instead. What is proven is Theorem 3.4 of Sokota et al. (ICLR 2023), of
KL(z*, z_k) to the *regularized* equilibrium alone (`mmd.measure.theory`); of the original game's equilibrium a rate is
an observation.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from mmd.host.drawing import COLORS
from mmd.measure.figure import (
    X_LABELS,
    Y_LABELS,
    Style,
    X,
    axes_for,
    column_of,
    draw_theorem,
    finished,
    styled,
    y_label,
)
from mmd.measure.plot import HasCurve, Run, curve_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.98  # R^2 from which on a stretch is called a line
FALL = 100.0  # factor by which distances have to fall for a rate
POINTS = 5  # of a stretch, at least
FLOOR = 1e-14  # of the largest distance: below it is rounding
ENDS = 80  # places where a stretch may begin or end
NEARLY = 1e-4  # of 1 - R^2: stretches that differ by no more are as straight
PROVEN_OF = ("kl", "regularized_gap")  # what the theorem's rate is about; of the gap up to a constant


class RateError(ValueError):
    """There is no rate in these distances; the message says why."""


@dataclass(frozen=True, repr=False)
class LinearRate:
    """A line through distances on a logarithmic axis.

    Attributes:
        of: what ran, as a figure's title; "" where it is not known.
        y: what the distances are, a column of the trace, or "distance".
        x: what the work is: "iterations", "gradient_evaluations" or "seconds".
        is_line: whether the stretch is straight: R^2 at least 0.98, and no power of the work fits better.
        rate: by how much the natural logarithm falls in a unit of work.
        r_squared: R^2 of the line.
        first, last: work at the ends of the stretch that it goes through.
        decades: by how many powers of ten it falls there.
        points: distances in it.
        start: value of the line at `first`.
        power: p, where work^-p fits the stretch better than the line; else None.
        proven: the factor of an iteration that is proven; None if none is.
        work, values: [n] all distances that are positive, with their work.
    """

    of: str
    y: str
    x: str
    is_line: bool
    rate: float
    r_squared: float
    first: float
    last: float
    decades: float
    points: int
    start: float
    power: float | None
    proven: float | None
    work: Float[np.ndarray, " n"]
    values: Float[np.ndarray, " n"]

    @property
    def factor(self) -> float:
        """The factor of a unit of work, exp(-rate)."""
        return math.exp(-self.rate)

    @property
    def proven_rate(self) -> float | None:
        """The proven rate of an iteration, -log of the factor; None if none is proven."""
        return None if self.proven is None else -math.log(self.proven)

    @property
    def status(self) -> str:
        """The rate as a sentence."""
        where = f"{self.x.replace('_', ' ')} {self.first:.6g} to {self.last:.6g}"
        if not self.is_line:
            better = "" if self.power is None else f", straighter on two logarithmic axes, as work^-{self.power:.3g}"
            return f"not a line: over {where} R^2 is {self.r_squared:.3f} at best{better}"
        said = f"a line: each of the {where} multiplies it by {self.factor:.6g}"
        said += f" (R^2 {self.r_squared:.4f}, {self.decades:.1f} decades)"
        return said + (f"; proven is {self.proven:.6g}" if self.proven is not None else "; no rate is proven")

    def __repr__(self) -> str:
        return f"LinearRate({self.y}: {self.status})"

    def at(self, work: Float[np.ndarray, " m"] | float) -> Any:
        """The line's value after so much work."""
        return self.start * np.exp(-self.rate * (np.asarray(work) - self.first))

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, ax: "Axes | None" = None, style: Style | None = None
    ) -> "Figure | Axes":
        """The distances, the fitted line over its stretch, and the line that is proven from the first distance on.

        Args:
            path: .png, .svg or .pdf to write; not written if None.
            ax: axes to draw into; a figure of its own if None.
            style: "paper" for a figure of a column's width in small print.

        Returns:
            The axes that were given, else the figure.

        Raises:
            OutputError: matplotlib cannot be imported, or the figure cannot be written.
        """
        with styled(style):
            axes, every = axes_for(ax, style), max(1, len(self.work) // 25)
            axes.plot(self.work, self.values, color=COLORS[0], linewidth=0.6)
            axes.plot(self.work[::every], self.values[::every], "o", color=COLORS[0], zorder=3, label="measured")
            if self.is_line:
                ends = np.array([self.first, self.last])
                said = f"fitted: times {self.factor:.4g}, R² {self.r_squared:.4f}"
                axes.plot(ends, self.at(ends), color=COLORS[1], linewidth=1.2, label=said)
            bottom = float(self.values.min())
            if self.proven is not None:
                bound = self.values[0] * self.proven ** (self.work - self.work[0])
                draw_theorem(axes, self.work, bound, bottom, f"theorem: times {self.proven:.4g}")
            axes.set_yscale("log")
            axes.set_ylim(bottom / 3, 3 * float(self.values.max()))
            axes.set(xlabel=X_LABELS[self.x], ylabel=y_label(self.y))
            axes.set_title(self.of, parse_math=False)
            return finished(axes, ax, path, style)


def linear_rate(
    run: Run | Sequence[float] | np.ndarray,
    y: str | None = None,
    *,
    x: X = "iterations",
    proven: float | None = None,
    floor: float | None = None,
) -> LinearRate:
    """The rate at which a run fell, from the straightest stretch of its distances on a logarithmic axis.

    A stretch covers at least two decades and half of all that the distances fall. Of those that are about as straight
    as the straightest, the longest is taken.

    Args:
        run: a `Solution`, a `Recording`, a run directory, or distances d_0, d_1, ... themselves.
        y: the column of the trace. If None, "kl" where the run has recorded it, else "regularized_gap" where the run
            has one with a proven rate, else "exploitability".
        x: the work that the rate is per.
        proven: factor of an iteration, if the run does not know it (`mmd.measure.theory.contraction_factor`).
        floor: distances up to here are rounding; 1e-14 of the largest if None.

    Raises:
        RateError: it is no run; there are too few distances above the floor, or they do not fall by a factor of 100.
        FigureError: the run has no such column.
        RunError: a path is not a run directory.
    """
    if not isinstance(run, HasCurve | str | os.PathLike):
        try:
            given = np.asarray(run, np.float64)
        except (TypeError, ValueError):
            raise RateError(f"expected a run or a sequence of distances, got {run!r}") from None
        if given.ndim != 1:
            raise RateError(f"expected a run or a sequence of distances, got an array of shape {given.shape}")
        about = ("", "distance" if y is None else y, x)
        return _fitted(about, np.arange(len(given), dtype=float), given, proven, floor)
    curve = curve_of(run)
    if y is None:
        known = [name for name in PROVEN_OF if curve.proven is not None and name in curve.trace]
        known = [name for name in known if np.isfinite(curve.trace[name]).any()]
        y = "kl" if "kl" in curve.trace else known[0] if known else "exploitability"
    values, work = column_of(curve, y), column_of(curve, x)
    if proven is None and y in PROVEN_OF and x == "iterations":
        proven = curve.proven
    numbers = ((name, curve.algorithm.get(name)) for name in ("alpha", "eta"))
    said = [f"{name} {number:.4g}" for name, number in numbers if isinstance(number, int | float)]
    return _fitted((", ".join([curve.game, *said]), y, x), work, values, proven, floor)


def _fitted(
    about: tuple[str, str, str], work: np.ndarray, values: np.ndarray, proven: float | None, floor: float | None
) -> LinearRate:
    """The line, from distances that may be anything.

    Args:
        about: what ran, what the distances are, and what the work is.
        work, values, proven, floor: as of `linear_rate`.

    Raises:
        RateError: every KL is 0, there are too few distances above the floor, or they do not fall by a factor of 100.
    """
    name = Y_LABELS.get(about[1], about[1]).removesuffix(", in nats")
    finite = np.isfinite(values) & np.isfinite(work)
    least = FLOOR * np.max(values, where=finite, initial=0.0) if floor is None else floor
    if about[1] == "kl" and np.any(finite) and np.max(values[finite]) <= FLOOR:
        raise RateError(
            f"expected a {name} above 0 at the start, and the run begins where it should arrive: "
            "begin elsewhere, with --seed 1 or start=mmd.Policy.random(game, 1)"
        )
    seen = finite & (values > max(least, 0.0))
    work, values = work[seen].astype(float), values[seen].astype(float)
    if len(work) < POINTS or not np.ptp(work) > 0:
        raise RateError(
            f"expected at least {POINTS} values of the {name} above {least:.1e}, where rounding begins, got {len(work)}"
        )
    log = np.log(values)
    fallen = float((np.maximum.accumulate(log) - log).max())
    if fallen < math.log(FALL):
        raise RateError(
            f"expected a {name} that falls by a factor of {FALL:g} at least, and it falls by one of "
            f"{math.exp(fallen):.3g}: nothing straight can be told from a curve over less; allow more iterations"
        )
    begin, end, r_squared = _straightest(work, log, fallen)
    stretch = slice(begin, end + 1)
    slope, height = np.polyfit(work[stretch], log[stretch], 1)
    power = _better_power(work[stretch], log[stretch], r_squared)
    start = math.exp(slope * work[begin] + height)
    line = r_squared >= LINE and power is None
    ends = (float(work[begin]), float(work[end]), float((log[begin] - log[end]) / math.log(10)))
    found = (line, -float(slope), r_squared, *ends, end + 1 - begin, start, power)
    return LinearRate(*about, *found, proven, work, values)


def _straightest(work: Float[np.ndarray, " n"], log: Float[np.ndarray, " n"], fallen: float) -> tuple[int, int, float]:
    """First and last index of the stretch, and its R^2."""
    places = np.unique(np.linspace(0, len(work) - 1, min(ENDS, len(work))).astype(int))
    begin, end = (a.ravel() for a in np.meshgrid(places, places, indexing="ij"))
    least = max(math.log(FALL), 0.5 * fallen)
    down = log[begin] - log[end]
    allowed: Bool[np.ndarray, " pairs"] = (end - begin >= POINTS - 1) & (down >= least * (1 - 1e-9))
    if not allowed.any():  # it falls from one place and returns: the whole of it
        begin, end, down = np.array([0]), np.array([len(work) - 1]), np.array([1.0])
    else:
        begin, end, down = begin[allowed], end[allowed], down[allowed]
    r_squared = _r_squared(work, log, begin, end)
    best = r_squared.max()
    near = 1 - r_squared <= max(2 * (1 - best), NEARLY)
    near &= (r_squared >= LINE) | (best < LINE)
    chosen = np.flatnonzero(near)[np.argmax(down[near])]
    return int(begin[chosen]), int(end[chosen]), float(r_squared[chosen])


def _r_squared(
    work: Float[np.ndarray, " n"], log: Float[np.ndarray, " n"], begin: np.ndarray, end: np.ndarray
) -> Float[np.ndarray, " pairs"]:
    """R^2 of the least-squares line through each stretch, from running sums."""
    u, v = (work - work.mean()) / np.ptp(work), (log - log.mean()) / np.ptp(log)
    sums = [np.concatenate([[0.0], np.cumsum(a)]) for a in (u, v, u * u, u * v, v * v)]
    n = end + 1.0 - begin
    su, sv, suu, suv, svv = (s[end + 1] - s[begin] for s in sums)
    spread_u, spread_v, both = suu - su * su / n, svv - sv * sv / n, suv - su * sv / n
    some = (spread_u > 0) & (spread_v > 0)
    return np.clip(np.where(some, both**2 / np.where(some, spread_u * spread_v, 1.0), 0.0), 0.0, 1.0)


def _better_power(work: Float[np.ndarray, " n"], log: Float[np.ndarray, " n"], r_squared: float) -> float | None:
    """The power of the work that fits better than the line, over a stretch long enough to tell them apart."""
    work, log = work[work > 0], log[work > 0]
    if len(work) < POINTS or work[-1] < 2 * work[0]:
        return None
    slope, height = np.polyfit(np.log(work), log, 1)
    left = np.sum((log - slope * np.log(work) - height) ** 2)
    spread = np.sum((log - log.mean()) ** 2)
    return -float(slope) if 1 - left / spread > r_squared else None
