"""The Nash lottery of a table of win rates, and what may be said of it when the table was measured on some prompts.

The table P is a preference game: `mmd.solve` finds its von Neumann winner (Dudik et al. 2015), the mixture of models
that no model beats, with a certificate. The certificate speaks of the measured table. How far other prompts would have
given another lottery is found by drawing the prompts again (`llm_bridge.measure.intervals.replicates`): each replicate
has a table, and each table its lottery, all solved as one batch.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

import mmd
from llm_bridge.measure.intervals import middle, replicates


class Lottery(NamedTuple):
    """A mixture of models.

    Attributes:
        lottery: probability of each model in the Nash equilibrium of the measured table.
        exploitability: of it in that table, as certified.
        converged: whether that is at most the default tolerance of `mmd.solve`. It says nothing of other prompts.
        lottery_low, lottery_high: the 95 % interval of each probability.
        exploitability_low, exploitability_high: the 95 % interval of how much more than half of its comparisons with
            the lottery the best model wins.
    """

    lottery: Mapping[str, float]
    exploitability: float
    converged: bool
    lottery_low: Mapping[str, float]
    lottery_high: Mapping[str, float]
    exploitability_low: float
    exploitability_high: float


def lottery_of(by_prompt: Float[np.ndarray, "K n"], wins: Float[np.ndarray, "M M"], names: Sequence[str]) -> Lottery:
    """The lottery of measured win rates, with its uncertainty.

    Args:
        by_prompt: win rate of each pair of models on each prompt, NaN where there is none; pairs as in `tables_of`.
        wins: the measured table.
        names: of the models.
    """
    probabilities, exploitability, converged = nash(wins, names)
    measured = np.array(list(probabilities.values()))
    tables = tables_of(replicates(by_prompt), len(names))
    low, high = middle(nash_of_each(tables).T, measured)
    gains = (tables @ measured).max(axis=1) - 0.5
    (least,), (most,) = middle(gains[None], np.array([exploitability]))
    at_least, at_most = (dict(zip(names, bound.tolist(), strict=True)) for bound in (low, high))
    return Lottery(probabilities, exploitability, converged, at_least, at_most, float(least), float(most))


def nash(wins: Float[np.ndarray, "n n"], names: Sequence[str]) -> tuple[dict[str, float], float, bool]:
    """The Nash lottery of a table of win rates, its certified exploitability, and whether the solver converged."""
    labels = (tuple(names), tuple(names))
    game = mmd.Game.from_matrix((wins - wins.T) / 2, name="win rates", labels=labels, offset=0.5, symmetric=True)
    solution = mmd.solve(game)
    probabilities = np.asarray(solution.policy.probabilities[0])[-len(names) :]
    lottery = dict(zip(names, probabilities.tolist(), strict=True))
    return lottery, float(solution.exploitability), solution.converged


def nash_of_each(tables: Float[np.ndarray, "R M M"]) -> Float[np.ndarray, "R M"]:
    """The Nash lotteries of many tables: the model that beats all others, or by `mmd.solve_many` where none does."""
    beats_all = (tables > 0.5).sum(axis=2) == tables.shape[1] - 1
    lotteries, open_ = beats_all.astype(np.float64), ~beats_all.any(axis=1)
    if open_.any():
        lotteries[open_] = mmd.solve_many(tables[open_] - 0.5).row
    return lotteries


def tables_of(rates: Float[np.ndarray, "K R"], n_models: int) -> Float[np.ndarray, "R M M"]:
    """Tables of win rates, from those of the pairs (1, 0), (2, 0), (2, 1), (3, 0), ...; 1/2 on the diagonal."""
    tables = np.full((rates.shape[1], n_models, n_models), 0.5)
    first, second = np.tril_indices(n_models, -1)
    tables[:, first, second], tables[:, second, first] = rates.T, 1 - rates.T
    return tables
