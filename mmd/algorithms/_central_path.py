"""The central path of a game: its self-dual program, and the steps of the interior point along it.

The steps are those that `mmd.algorithms.interior` describes, the program is that of `mmd.algorithms._newton`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import sparse

from mmd.algorithms._newton import Newton, NotSolvable
from mmd.game.game import Game
from mmd.measure.sequence_form import constraints, payoff_matrix

TO_BOUNDARY = 0.97  # of the way to where an entry would be 0, at least
LONGER = 0.2  # step length that the correction tries to win
WITHIN = (0.1, 10.0)  # of their target: products that the correction leaves alone
CORRECTIONS, ENOUGH = 3, 0.9  # at most so many; step lengths that need none
WON_IN_ONE, WON_IN_BOTH = 0.05, 0.1  # step lengths for which the correction is kept
PATIENCE = 6  # iterations in which the gap must fall by half
SMALLEST_GAP = 1e-18  # of the largest payoff

Direct = Callable[[Float[np.ndarray, " S"]], "Point"]


def path(prepared: "Prepared") -> Iterator["Point"]:
    """The start, and the point after each iteration."""
    point = prepared.program.start()
    gaps = [point.gap]
    yield point
    while gaps[-1] > SMALLEST_GAP and (len(gaps) <= PATIENCE or gaps[-1] < gaps[-1 - PATIENCE] / 2):
        try:
            point = _advanced(prepared.program, prepared.newton, point)
        except NotSolvable:
            return
        gaps.append(point.gap)
        yield point


class Prepared(NamedTuple):
    """What is worked out of a game once: the program, and its Newton system in an elimination order."""

    game: Game
    program: "SelfDual"
    newton: Newton

    @classmethod
    def of(cls, game: Game) -> "Prepared":
        """Of a game."""
        program = SelfDual(game)
        return cls(game, program, Newton(program.skew, program.constraints))


class Point(NamedTuple):
    """A strictly feasible point, or a direction: both players' plans, slacks and infoset values."""

    v: Float[np.ndarray, " S"]
    s: Float[np.ndarray, " S"]
    t: Float[np.ndarray, " J"]

    @property
    def gap(self) -> float:
        """`p_0 + q_0`, the sum of what both players' best responses are at most worth, over the largest payoff."""
        return float((self.v * self.s).sum())  # a short dot product would wake BLAS's threads


class SelfDual:
    """The two linear programs of a game as one that is its own dual, payoffs over the largest of them.

    Attributes:
        skew, constraints, right: M [S, S], C [J, S] and c [J] of `mmd.algorithms._newton`.
        free: [S] which entries of v are plans of an action: all but the two empty sequences, which have no slack.
        n_products: how many those are, at least 1.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        payoffs = payoff_matrix(game)
        payoffs.data[:] = np.asarray(payoffs.data, np.float64) / (
            float(np.abs(payoffs.data).max(initial=0.0)) or 1.0
        )  # not times the inverse, which may overflow
        both = [constraints(player) for player in game.players]
        self.skew = sparse.csr_array(sparse.block_array([[None, -payoffs], [payoffs.T, None]]))
        self.constraints = sparse.csr_array(sparse.block_diag(both))
        self.transposed = sparse.csr_array(self.constraints.T)
        self.split, self.split_values = game.row.n_sequences, 1 + game.row.n_infosets
        self.right = np.zeros(self.split_values + 1 + game.column.n_infosets)
        self.right[[0, self.split_values]] = 1.0
        self.free = np.ones(self.split + game.column.n_sequences, bool)
        self.free[[0, self.split]] = False
        self.n_products = max(int(self.free.sum()), 1)

    def plans(self, point: Point) -> tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]:
        """Both players' plans."""
        return point.v[: self.split], point.v[self.split :]

    def start(self) -> Point:
        """The start that the module describes."""
        row, column = self.game.players
        plans = [player.host_plan(np.exp(player.uniform())) for player in (row, column)]
        v = np.concatenate(plans)
        gradients = np.split(-(self.skew @ v), [self.split])
        least = [player.host_best(g) for player, g in zip((row, column), gradients, strict=True)]
        mu = (least[0][0] + least[1][0]) / np.sqrt(len(v))
        raised = [
            player.host_best(g, np.minimum(1.0, player.n_actions * mu / plan[np.asarray(player.parent)]))
            for player, plan, g in zip((row, column), plans, gradients, strict=True)
        ]
        t = np.concatenate(raised)
        return Point(v, np.where(self.free, self.transposed @ t + self.skew @ v, 0.0), t)

    def steps(self, lengths: tuple[float, float]) -> Point:
        """The lengths of the two steps, entry by entry: the first for (x, w, q), the second for (y, z, p)."""
        first, second = lengths
        v = np.where(np.arange(len(self.free)) < self.split, first, second)
        s = np.where(np.arange(len(self.free)) < self.split, second, first)
        return Point(v, s, np.where(np.arange(len(self.right)) < self.split_values, second, first))

    def longest(self, point: Point, direction: Point) -> tuple[float, float]:
        """Both step lengths, at most 1, at which an entry becomes 0."""
        falls_v, falls_s = (
            np.divide(-now, d, out=np.full(len(now), np.inf), where=self.free & (d < 0))
            for now, d in zip(point[:2], direction[:2], strict=True)
        )
        row, column = slice(None, self.split), slice(self.split, None)
        return (
            float(min(falls_v[row].min(), falls_s[column].min(), 1.0)),
            float(min(falls_v[column].min(), falls_s[row].min(), 1.0)),
        )


def _advanced(program: SelfDual, newton: Newton, point: Point) -> Point:
    """The next point of the path.

    Raises:
        NotSolvable: float64 cannot solve the Newton system.
    """
    v, s, t = point
    free = program.free
    with np.errstate(all="ignore"):  # what has become 0 is refused by the factors
        inverse = np.divide(1.0, v, out=np.zeros_like(v), where=free)
        theta = np.where(free, s * inverse, 1.0)
    newton.factor(theta)  # dv of an empty sequence is 0, so its Theta may be anything
    slack = s - np.where(free, program.transposed @ t + program.skew @ v, 0.0)
    empty = np.where(free, 0.0, program.transposed @ t + program.skew @ v)
    short = program.right - program.constraints @ v

    def direction(products: Float[np.ndarray, " S"]) -> Point:
        """Newton's direction towards v_i s_i + products_i, as far as they are linear."""
        right = np.concatenate([products * inverse + slack - empty, -short])
        dv, dt = np.split(newton.solve(right), [len(v)])
        return Point(dv, (products - s * dv) * inverse, dt)

    lengths, chosen = _corrected(program, point, direction)
    short_of_boundary = max(TO_BOUNDARY, 1 - point.gap)
    first, second = (min(1.0, short_of_boundary * length) for length in lengths)
    taken = program.steps((first, second))
    return Point(*(now + step * d for now, step, d in zip(point, taken, chosen, strict=True)))


def _corrected(program: SelfDual, point: Point, direction: Direct) -> tuple[tuple[float, float], Point]:
    """Predictor, corrector and centrality corrections: the direction to take, and its longest steps."""
    v, s, _ = point
    mu = point.gap / program.n_products
    predicted = direction(np.where(program.free, -v * s, 0.0))
    target = mu * (_products(program, point, predicted, 0.0).sum() / point.gap) ** 3
    products = np.where(program.free, target - v * s - predicted.v * predicted.s, 0.0)
    chosen = direction(products)
    lengths = program.longest(point, chosen)
    low, high = (bound * target for bound in WITHIN)
    for _ in range(CORRECTIONS):
        if min(lengths) > ENOUGH:
            break
        ahead = _products(program, point, chosen, LONGER)
        missing = np.maximum(np.clip(ahead, low, high) - ahead, -high)
        products = products + np.where(program.free, missing, 0.0)
        centred = direction(products)
        longer = program.longest(point, centred)
        if min(longer) <= min(lengths) + WON_IN_ONE and sum(longer) <= sum(lengths) + WON_IN_BOTH:
            break
        lengths, chosen = longer, centred
    return lengths, chosen


def _products(program: SelfDual, point: Point, direction: Point, longer: float) -> Float[np.ndarray, " S"]:
    """The products v_i s_i at the end of the longest steps, made longer by so much."""
    first, second = (min(1.0, length + longer) for length in program.longest(point, direction))
    step = program.steps((first, second))
    return (point.v + step.v * direction.v) * (point.s + step.s * direction.s)
