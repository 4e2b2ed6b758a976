"""Polish: a certified crossover from an approximate equilibrium to one that is exact up to rounding.

Guess the optimal face, that is the sequences S, T which the two players use, and project each plan on it in the metric
of its own KL divergence: with x0 the given plan, G x the opponent's payoff gradient and E, F the constraint matrices,

    X = argmin_x sum_s (x_s - x0_s)^2 / x0_s   s.t.   E x = e,   x = 0 off S,   (F^T q)_t = (G x)_t on T for some q

makes every sequence of T a best response to X. A vertex is not looked for: what the face leaves open (play that is
never reached, other equilibria) stays as it was. One sparse factorisation, refined until the constraints hold to
rounding.

The guess: a sequence is used if its probability exceeds c times its regret per gradient range of its infoset, for a few
values of c; then it is corrected by what the projection shows. It needs a point near the relative interior of the face,
where what is not used costs something; entropic iterates tend to one, and near a vertex it fails. A wrong guess costs
time only: a result is kept only if the independent certificate (`mmd.measure.certificate`) says that NashConv fell.
What starts are near enough is measured, not proven (docs/decisions/008). Exact zeros come out, so an iteration in log
space must not start from the result.

What it may cost is decided by a model of the time it takes, not by the clock, so that a run can be repeated.

Letters as in `mmd.game.treeplex`; J = 1 + I, the whole game and then its infosets.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse
from scipy.sparse.linalg import splu

from mmd.game.game import Game
from mmd.game.policy import behaviour
from mmd.game.treeplex import Treeplex
from mmd.measure.certificate import Certificate, certify
from mmd.measure.sequence_form import constraints, payoff_matrix
from mmd.measure.vertex import vertex

CUTS = (1.0, 0.1, 10.0)  # values of c, the one that is right first most often first
PROJECTIONS = 3  # for each of them, corrections included
HOPELESS = 2.0  # a projection with so many times the NashConv of what was given is not corrected
MIXING = 0.1  # share of uniform play in the plans at which gradient ranges are measured, as in `mmd.algorithms`
NEGLIGIBLE = 1e-12  # of a probability, or of max |A|: no evidence against a sequence
SMALLEST_MASS = 1e-9  # of x0 in the metric
FREEDOM = 1e-6  # weight of q in the metric; the projection would not exist where T says nothing of an infoset
STABILITY = (
    1e-12  # of the dual block; at 1e-9 refinement is too slow, at 0 redundant constraints break the factorisation
)
# Seconds of the model, from two cores of 2025: what a projection takes, and a gradient evaluation with its step.
PROJECTION, PER_SQUARED_NONZERO, PER_CUBED_EQUATION = 1e-2, 8e-11, 5e-10
PER_ENTRY, PER_SEQUENCE = 1e-9, 1.6e-8
TRY_PER_ENTRY = 2e-7  # what a try costs before its first projection
MOST_PAYOFFS = 5_000_000  # of a game that `affordable` lets be polished: its sparse matrices are copied several times
ALLOWANCE, SHARE = 1.0, 0.5  # seconds that are always allowed, and the share of a run's own time beyond them
REFINEMENTS = 60
RESIDUAL = 3e-16  # ends them, and so does one that falls by less than to this share:
STALLED = 0.9

Plans = tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]
Values = tuple[Float[np.ndarray, " J0"], Float[np.ndarray, " J1"]]
Face = tuple[Bool[np.ndarray, " S0"], Bool[np.ndarray, " S1"]]


@dataclass(frozen=True)
class PolishReport:
    """What came of it.

    Attributes:
        probabilities: [S0], [S1] behavioural policies: the polished ones if accepted, else those that were given.
        before, after: certificates of the given and of the returned policies; NashConv never rises.
        faces: how many guesses were tried.
        gradient_evaluations: how many pairs (A y, A^T x) or (|A| y, |A|^T x) it took, those of certificates included.
        modelled_seconds: what the model says that the projections cost.
        seconds: time taken.
    """

    probabilities: Plans
    before: Certificate
    after: Certificate
    faces: int
    gradient_evaluations: int
    modelled_seconds: float
    seconds: float

    @property
    def nash_conv_before(self) -> float:
        """Certified NashConv of the given policies."""
        return self.before.nash_conv

    @property
    def nash_conv_after(self) -> float:
        """Certified NashConv of the returned policies."""
        return self.after.nash_conv

    @property
    def accepted(self) -> bool:
        """Whether NashConv fell."""
        return self.nash_conv_after < self.nash_conv_before


def affordable(game: Game, gradient_evaluations: int, spent: float, time_limit: float | None = None) -> float:
    """Modelled seconds that one more call may take in a run of so many gradient evaluations; 0 in a huge game.

    Half of what is left after the `spent` ones of earlier calls, so that something is left for a better start. A run
    with a time limit allows at most a quarter of it beyond the share.
    """
    if game.payoff.n_stored > MOST_PAYOFFS:
        return 0.0
    sequences = sum(player.n_sequences for player in game.players)
    step = PER_ENTRY * game.payoff.n_stored + PER_SEQUENCE * sequences
    allowance = ALLOWANCE if time_limit is None else min(ALLOWANCE, time_limit / 4)
    return max(allowance + SHARE * step * gradient_evaluations - spent, 0.0) / 2


def polish(
    game: Game,
    probabilities: Plans,
    *,
    certificate: Certificate | None = None,
    goal: float = 1e-14,
    budget: float = np.inf,
) -> PolishReport:
    """Try to turn approximate equilibrium policies into exact ones; never makes them worse.

    Args:
        game: the game.
        probabilities: [S0], [S1] behavioural policies, entry 0 (the empty sequence) being 1.
        certificate: that of these policies, where it is known already.
        goal: NashConv, in units of the largest sequence-form payoff, at which no further guess is tried.
        budget: modelled seconds that the projections may take together; one that would exceed it is not begun.

    Raises:
        GameError: the probabilities are not a policy of this game.
    """
    begun = time.perf_counter()
    before = after = certificate or certify(game, probabilities)
    form, best, faces, work = _Form.of(game), probabilities, 0, _Work(budget, TRY_PER_ENTRY * game.payoff.n_stored)
    if before.nash_conv > goal * form.scale:
        for candidate in _candidates(form, probabilities, work):
            faces += 1
            found = certify(game, candidate)
            if found.nash_conv < after.nash_conv:
                best, after = candidate, found
            if after.nash_conv <= goal * form.scale:
                break
    evaluations = 1 + faces + work.gradient_evaluations
    return PolishReport(best, before, after, faces, evaluations, work.spent, time.perf_counter() - begun)


def to_vertex(game: Game, probabilities: Plans, *, certificate: Certificate | None = None) -> PolishReport:
    """The exact vertex of a small game (`mmd.measure.vertex`), if it is better than what is given.

    Args:
        game: the game.
        probabilities: [S0], [S1] behavioural policies; they stay where no play of the vertex leads.
        certificate: that of these policies, where it is known already.

    Raises:
        GameError: the probabilities are not a policy of this game.
    """
    begun = time.perf_counter()
    before, found = certificate or certify(game, probabilities), vertex(game, probabilities)
    after = certify(game, found)
    if after.nash_conv >= before.nash_conv:
        found, after = probabilities, before
    return PolishReport(found, before, after, 1, 2, 0.0, time.perf_counter() - begun)


@dataclass
class _Work:
    """What was spent of a budget of modelled seconds, and gradient evaluations."""

    budget: float
    spent: float
    gradient_evaluations: int = 0

    def projection(self, equations: sparse.csc_array, n_equations: int) -> bool:
        """Spend what a projection costs; False, and nothing spent, if the budget does not have it."""
        size = len(equations.indptr) - 1 + n_equations  # of the square system
        factors = min(PER_SQUARED_NONZERO * equations.nnz**2, PER_CUBED_EQUATION * size**3)
        affordable = self.spent + PROJECTION + factors <= self.budget
        self.spent += (PROJECTION + factors) * affordable
        return affordable


class _Point(NamedTuple):
    """A profile, and what a guess and a projection need of it; pairs over players.

    Attributes:
        probabilities, plans: [S] behavioural policies and plans.
        values: [J] what a best response is worth, in the whole game and at each infoset.
        regrets: [S] what a sequence is worth minus what its infoset is worth (<= 0).
    """

    probabilities: Plans
    plans: Plans
    values: Values
    regrets: Plans

    @property
    def nash_conv(self) -> float:
        """What both best responses gain, in units of the largest payoff."""
        return float(self.values[0][0] + self.values[1][0])


@dataclass(frozen=True)
class _Form:
    """The sequence form, with payoffs divided by the largest, `scale`; pairs over players."""

    players: tuple[Treeplex, Treeplex]
    constraints: tuple[sparse.csr_array, sparse.csr_array]
    payoffs: tuple[sparse.csr_array, sparse.csr_array]  # [own sequences, opponent's sequences]: A and -A^T
    scale: float

    @classmethod
    def of(cls, game: Game) -> "_Form":
        payoffs = payoff_matrix(game)
        scale = float(np.max(np.abs(payoffs.data), initial=0.0)) or 1.0
        row, column = (constraints(player) for player in game.players)
        return cls(game.players, (row, column), (payoffs / scale, sparse.csr_array(-payoffs.T) / scale), scale)

    def point(self, probabilities: Plans) -> _Point:
        """The profile with best responses to it."""
        plans = self.plans(probabilities)
        gradients = (self.payoffs[0] @ plans[1], self.payoffs[1] @ plans[0])
        values = self.best(gradients)
        row, column = (g - e.T @ v for g, e, v in zip(gradients, self.constraints, values, strict=True))
        return _Point(probabilities, plans, values, (row, column))

    def ranges(self, plans: Plans) -> Plans:
        """Gradient range of each sequence's infoset, [S], measured with some uniform play mixed in."""
        row, column = (np.exp(player.uniform()) for player in self.players)
        even = self.plans((row, column))
        x, y = ((1 - MIXING) * plan + MIXING * other for plan, other in zip(plans, even, strict=True))
        ranges = self.best((abs(self.payoffs[0]) @ y, abs(self.payoffs[1]) @ x))
        row, column = (
            np.concatenate([r[:1], np.repeat(r[1:], player.n_actions)])
            for r, player in zip(ranges, self.players, strict=True)
        )
        return row, column

    def closed(self, face: Face) -> Face:
        """The sequences of which no part is missing from a face: the plan of its indicator says which."""
        row, column = self.plans((face[0].astype(np.float64), face[1].astype(np.float64)))
        return row > 0, column > 0

    def plans(self, probabilities: Plans) -> Plans:
        """Plans of behavioural policies."""
        row, column = (player.host_plan(p) for player, p in zip(self.players, probabilities, strict=True))
        return row, column

    def best(self, gradients: Plans) -> Values:
        """What best responses are worth."""
        row, column = (player.host_best(g) for player, g in zip(self.players, gradients, strict=True))
        return row, column


def _candidates(form: _Form, probabilities: Plans, work: _Work) -> Iterator[Plans]:
    """Projections of a profile on guessed faces, as behavioural policies."""
    point = form.point(probabilities)
    ranges = form.ranges(point.plans)
    work.gradient_evaluations += 2
    for cut in CUTS:
        row, column = (
            p * (size + NEGLIGIBLE) > -cut * regret
            for p, size, regret in zip(probabilities, ranges, point.regrets, strict=True)
        )
        face = form.closed((row, column))
        for _ in range(PROJECTIONS):
            x, y = (_projection(form, point, face, player, work) for player in (0, 1))
            if x is None or y is None:
                break
            projected = behaviour(form.players[0], x, probabilities[0]), behaviour(form.players[1], y, probabilities[1])
            yield projected
            at = form.point(projected)
            work.gradient_evaluations += 1
            corrected = _corrected(form, face, (x, y), at)
            if at.nash_conv > HOPELESS * point.nash_conv or all(
                np.array_equal(a, b) for a, b in zip(face, corrected, strict=True)
            ):
                break
            face = corrected


def _corrected(form: _Form, face: Face, plans: Plans, at: _Point) -> Face:
    """Without the sequences whose mass came out negative, with the best responses that are played to the result."""
    row, column = (
        (used & (plan >= -NEGLIGIBLE)) | (regret >= -NEGLIGIBLE)
        for used, plan, regret in zip(face, plans, at.regrets, strict=True)
    )
    return form.closed((row, column))


def _projection(form: _Form, point: _Point, face: Face, player: int, work: _Work) -> Float[np.ndarray, " S"] | None:
    """The X of the module docstring, with the negative entries of a wrong guess; None if it cannot be had."""
    own, tight = np.flatnonzero(face[player]), np.flatnonzero(face[1 - player])
    plan, values = point.plans[player], point.values[1 - player]
    conserved = form.constraints[player][:, own]
    gradient = form.payoffs[1 - player][tight][:, own]
    best = form.constraints[1 - player][:, tight].T
    equations = sparse.csc_array(sparse.block_array([[conserved, None], [-gradient, best]]))
    right = np.zeros(len(point.values[player]) + len(tight))
    right[0] = 1.0
    metric = np.concatenate([1 / np.maximum(plan[own], SMALLEST_MASS), np.full(len(values), FREEDOM)])
    start = np.concatenate([plan[own], values])
    solved = _nearest(equations, right, metric, start) if work.projection(equations, len(right)) else None
    if solved is None:
        return None
    projected = np.zeros_like(plan)
    projected[own] = solved[: len(own)]
    return projected


def _nearest(
    equations: sparse.csc_array,
    right: Float[np.ndarray, " M"],
    metric: Float[np.ndarray, " N"],
    start: Float[np.ndarray, " N"],
) -> Float[np.ndarray, " N"] | None:
    """The solution of `equations z = right` (perhaps redundant) nearest to `start`; None if it cannot be computed.

    Every refinement solves for the residual with the same factors; inconsistent equations leave one that stays.
    """
    dual = sparse.diags_array(np.full(len(right), -STABILITY))
    try:
        factors = splu(sparse.block_array([[sparse.diags_array(metric), equations.T], [equations, dual]], format="csc"))
    except RuntimeError:  # exactly singular
        return None
    z, smallest = start, np.inf
    for _ in range(REFINEMENTS):
        residual = right - equations @ z
        size = np.max(np.abs(residual))
        if size < RESIDUAL or not size < STALLED * smallest:
            break
        smallest = size
        z = z + factors.solve(np.concatenate([np.zeros(len(z)), residual]))[: len(z)]
    return z if np.isfinite(z).all() else None
