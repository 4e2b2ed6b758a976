"""The polish of many matrix games at once: small dense systems in place of `mmd.solving.polish`'s one sparse system.

The idea is `mmd.solving.polish`'s: guess the supports S, T that the two players use, and project each strategy on the
optimal face that they describe, in the metric of its own KL divergence. In a matrix game, with x0 the given strategy of
a player and B its payoffs against each reply of the opponent,

    X = argmin_x sum_s (x_s - x0_s)^2 / x0_s   s.t.   sum_S x = 1,   x = 0 off S,   (x B)_t equal for all t in T

and with C the rows of these constraints (payoffs of T less their mean) and D = diag(x0),

    X = x0 + D C^T (C D C^T)^-1 (c - C x0)

whose matrix has 1 + |T| rows. Games are put together by the size of their supports, so that one call of LAPACK's
batched inverse serves them all; the inverse is slightly regularized and then used to refine until the constraints hold
to rounding.

A guess is corrected by what its projection shows. A result is kept only if the certificate
(`mmd.measure.certificate.certify_matrices`) says that NashConv fell; exact zeros come out, so an iteration in log space
must not start from it.

NumPy in float64. Letters as in `mmd.game.padded`; k the size of a support.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mmd.game.padded import Matrices
from mmd.measure.certificate import certify_matrices

CUTS = (1.0, 0.1, 10.0, 1e3, 1e6)  # values of its c; the large ones keep best responses only, for near ties
NEAR_TIE = 1e-2  # of the payoff range: an action that costs less counts as used, whatever its probability
PROJECTIONS = 3  # for each of them, corrections included
HOPELESS = 2.0  # a projection with so many times the NashConv of what was given is not corrected
MIXING = 0.1  # share of uniform play in the strategies at which payoff ranges are measured
NEGLIGIBLE = 1e-12  # of a probability, or of max |A|: no evidence against an action
SMALLEST_MASS = 1e-9  # of x0 in the metric
STABILITY = 1e-12  # added to the diagonal of C D C^T: redundant constraints must not make it singular
REFINEMENTS = 12
RESIDUAL = 3e-16  # ends them

Strategies = tuple[Float[np.ndarray, "G m"], Float[np.ndarray, "G n"]]
Supports = tuple[Bool[np.ndarray, "H m"], Bool[np.ndarray, "H n"]]  # of the games that a guess is made for


class Polished(NamedTuple):
    """What came of it.

    Attributes:
        strategies: of both players, the given ones where nothing better was found.
        nash_conv: certified, in payoff units; never more than that of the given ones.
        faces: how many guesses were tried for each game.
    """

    strategies: Strategies
    nash_conv: Float[np.ndarray, " G"]
    faces: Int[np.ndarray, " G"]


def polish_matrices(games: Matrices, strategies: Strategies, goal: Float[np.ndarray, " G"]) -> Polished:
    """Try to turn approximate equilibria into exact ones; never makes one worse.

    Args:
        games: the games.
        strategies: of the row and of the column players, each a distribution on the actions that exist.
        goal: NashConv, in payoff units, at which no further guess is tried.
    """
    scale = np.abs(games.payoffs).max(axis=(1, 2))
    scale = np.where(scale > 0, scale, 1.0)
    unit = games._replace(payoffs=games.payoffs / scale[:, None, None])
    before, regrets = _certified(unit, strategies)
    ranges = _ranges(unit, strategies)
    found = Polished((strategies[0].copy(), strategies[1].copy()), before.copy(), np.zeros(len(scale), int))
    for cut in CUTS:
        open_ = np.flatnonzero(found.nash_conv > goal / scale)
        if len(open_) == 0:
            break
        row, column = (
            ((p[open_] + NEAR_TIE) * (size[open_] + NEGLIGIBLE) > -cut * regret[open_]) & exists[open_]
            for p, size, regret, exists in zip(strategies, ranges, regrets, games.exist, strict=True)
        )
        _follow(unit, strategies, (row, column), _Search(open_, before, goal / scale, found))
    return found._replace(nash_conv=found.nash_conv * scale)


class _Search(NamedTuple):
    """Games that a guess is made for, what they started from and must reach, and the best of each so far."""

    open: Int[np.ndarray, " H"]
    before: Float[np.ndarray, " G"]
    goal: Float[np.ndarray, " G"]
    found: Polished


def _follow(games: Matrices, given: Strategies, supports: Supports, search: _Search) -> None:
    """Project on the guessed supports, correct them, and so on; the best goes into `search.found`."""
    at, found = search.open, search.found
    for _ in range(PROJECTIONS):
        here, start = games.at(at), (given[0][at], given[1][at])
        row, column = (
            _projected(here.payoffs, start[0], supports[0], supports[1]),
            _projected(-here.payoffs.transpose(0, 2, 1), start[1], supports[1], supports[0]),
        )
        candidate = _distributions(row, start[0]), _distributions(column, start[1])
        nash_conv, regrets = _certified(here, candidate)
        found.faces[at] += 1
        better = nash_conv < found.nash_conv[at]
        found.nash_conv[at[better]] = nash_conv[better]
        for into, new in zip(found.strategies, candidate, strict=True):
            into[at[better]] = new[better]
        corrected = tuple(
            ((used & (plan >= -NEGLIGIBLE)) | (regret >= -NEGLIGIBLE)) & exists
            for used, plan, regret, exists in zip(supports, (row, column), regrets, here.exist, strict=True)
        )
        changed = np.any(corrected[0] != supports[0], axis=1) | np.any(corrected[1] != supports[1], axis=1)
        on = changed & (nash_conv > search.goal[at]) & (nash_conv <= HOPELESS * search.before[at])
        at, supports = at[on], (corrected[0][on], corrected[1][on])
        if len(at) == 0:
            return


def _certified(games: Matrices, strategies: Strategies) -> tuple[Float[np.ndarray, " G"], Strategies]:
    """Certified NashConv, and what each action is worth less than the best one (<= 0)."""
    certificates = certify_matrices(games.payoffs, games.exist, strategies)
    to_row, to_column = _products(games.payoffs, strategies)
    row = to_row - np.where(games.rows, to_row, -np.inf).max(axis=1, keepdims=True)
    column = -to_column - np.where(games.columns, -to_column, -np.inf).max(axis=1, keepdims=True)
    return certificates.nash_conv, (row, column)


def _products(payoffs: Float[np.ndarray, "G m n"], strategies: Strategies) -> Strategies:
    """(A y, A^T x)."""
    x, y = strategies
    return (payoffs @ y[:, :, None])[:, :, 0], (x[:, None, :] @ payoffs)[:, 0]


def _ranges(games: Matrices, strategies: Strategies) -> tuple[Float[np.ndarray, "G 1"], Float[np.ndarray, "G 1"]]:
    """Largest payoff that each player may expect, in absolute value, against some uniform play mixed in."""
    x, y = (
        (1 - MIXING) * p + MIXING * exists / exists.sum(axis=1, keepdims=True)
        for p, exists in zip(strategies, games.exist, strict=True)
    )
    to_row, to_column = _products(np.abs(games.payoffs), (x, y))
    return to_row.max(axis=1, keepdims=True), to_column.max(axis=1, keepdims=True)


def _distributions(plans: Float[np.ndarray, "G m"], fallback: Float[np.ndarray, "G m"]) -> Float[np.ndarray, "G m"]:
    """Plans whose entries may be negative by a wrong guess, clipped and scaled to sum 1."""
    mass = np.maximum(plans, 0.0)
    sums = mass.sum(axis=1, keepdims=True)
    usable = np.isfinite(sums) & (sums > 0)
    return np.where(usable, mass / np.where(usable, sums, 1.0), fallback)


def _projected(
    payoffs: Float[np.ndarray, "G m n"],
    start: Float[np.ndarray, "G m"],
    used: Bool[np.ndarray, "G m"],
    tight: Bool[np.ndarray, "G n"],
) -> Float[np.ndarray, "G m"]:
    """The X of the module docstring for each game, with the negative entries of a wrong guess."""
    result = np.zeros_like(start)
    sizes = used.sum(axis=1), tight.sum(axis=1)
    octave = np.ceil(np.log2(np.maximum(*sizes)))
    for kind in np.unique(octave):
        at = np.flatnonzero(octave == kind)
        (own, own_there), (other, other_there) = (
            _members(support[at], int(size[at].max())) for support, size in zip((used, tight), sizes, strict=True)
        )
        block = payoffs[at[:, None, None], own[:, :, None], other[:, None, :]]
        x0 = np.where(own_there, start[at[:, None], own], 0.0)
        result[at[:, None], own] = _nearest(_constraints(block, own_there, other_there), x0, own_there, other_there)
    return result


def _members(support: Bool[np.ndarray, "G m"], size: int) -> tuple[Int[np.ndarray, "G k"], Bool[np.ndarray, "G k"]]:
    """Indices of the members of each support, other ones after them; and which are members."""
    index = np.argsort(~support, axis=1, kind="stable")[:, :size]
    return index, np.take_along_axis(support, index, axis=1)


def _constraints(
    payoffs: Float[np.ndarray, "G k l"], own: Bool[np.ndarray, "G k"], tight: Bool[np.ndarray, "G l"]
) -> Float[np.ndarray, "G l1 k"]:
    """C: the sum, then what each tight reply pays less than their mean."""
    payoffs = payoffs * tight[:, None, :]
    mean = payoffs.sum(axis=2, keepdims=True) / np.maximum(tight.sum(axis=1), 1)[:, None, None]
    centered = (payoffs - mean) * tight[:, None, :]
    return np.concatenate([np.ones_like(centered[:, :, :1]), centered], axis=2).transpose(0, 2, 1) * own[:, None, :]


def _nearest(
    constraints: Float[np.ndarray, "G l1 k"],
    start: Float[np.ndarray, "G k"],
    own: Bool[np.ndarray, "G k"],
    tight: Bool[np.ndarray, "G l"],
) -> Float[np.ndarray, "G k"]:
    """The solution of `C x = (1, 0, ..., 0)` nearest to `start`; every refinement uses the same inverse."""
    metric = np.maximum(start, SMALLEST_MASS) * own
    gram = (constraints * metric[:, None, :]) @ constraints.transpose(0, 2, 1)
    among = tight[:, :, None] & tight[:, None, :]
    gram[:, 1:, 1:] += among / np.maximum(tight.sum(axis=1), 1)[:, None, None]  # the centred rows sum to 0
    diagonal = np.arange(gram.shape[1])
    gram[:, diagonal, diagonal] += STABILITY + np.pad(~tight, ((0, 0), (1, 0)))
    inverse = np.linalg.inv(gram)
    x, at = start.copy(), np.arange(len(start))
    for _ in range(REFINEMENTS):
        residual = -(constraints[at] @ x[at, :, None])
        residual[:, 0] += 1.0
        on = np.abs(residual).max(axis=(1, 2)) > RESIDUAL
        at, residual = at[on], residual[on]
        if len(at) == 0:
            break
        multipliers = inverse[at] @ residual
        x[at] += metric[at] * (constraints[at].transpose(0, 2, 1) @ multipliers)[:, :, 0]
    return x
