"""How sure a lottery of measured comparisons is: intervals of the value and of all probabilities.

The comparisons, or ballots, of which a table was made are drawn again and again (`mmd.game.sample`), each table is
solved, and the middle 95 % of the values, and of the probabilities of each action, are its intervals (percentile
bootstrap, Efron 1979). They are widened where that takes it to hold what was measured.

On 500 simulated tables of each of three kinds the 95 % interval of the value held the true value in 95 % of cases,
those of probabilities in 90 to 100 %, and for probabilities of 0.5 to 1 in one kind in 89.5 %
(`benchmarks/claims/bootstrap_coverage.py`). Apart from chance an equilibrium may not be unique; then a probability is
not a number but a range, over all equilibria of the measured table.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mmd.game.game import Game, GameError, as_game
from mmd.game.policy import PLAYERS, labels_of
from mmd.host.notebook import data_frame, html_table
from mmd.measure.equilibria import maximal_entropy as equilibrium_of_maximal_entropy
from mmd.measure.exact import UNIQUE, optimal_range, solve_exactly
from mmd.measure.matrix_games import Equilibria, solve_all

PLAYED = 1e-6  # a smaller probability is rounding
COLUMNS = ("player", "action", "probability", "low", "high", "played", "least", "most")


class Weights(NamedTuple):
    """Probabilities of the n actions of one player.

    Attributes:
        player: "row" or "column", or "lottery" for both players of a symmetric game.
        actions: their names.
        measured: in an equilibrium of the measured table.
        low, high: ends of their intervals.
        played: shares of the tables drawn again in which they are played at all.
        least, most: smallest and largest over all equilibria of the measured table.
    """

    player: str
    actions: Sequence[str]
    measured: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    played: Float[np.ndarray, " n"]
    least: Float[np.ndarray, " n"]
    most: Float[np.ndarray, " n"]

    @property
    def unique(self) -> bool:
        """Whether the player has one optimal strategy only in the measured table."""
        return bool((self.most - self.least).max() < UNIQUE)


@dataclass(frozen=True, repr=False)
class Bootstrap:
    """Intervals of the value and of the probabilities of an equilibrium of measured comparisons.

    Attributes:
        game: the game of the measured table.
        draws: how many tables were drawn again.
        level: of the intervals, such as 0.95.
        value: of the measured table, in the units of the input.
        value_low, value_high: the ends of its interval; a symmetric game's value is the same in all tables.
        weights: the probabilities of each player, only one in a symmetric game.
    """

    game: Game
    draws: int
    level: float
    value: float
    value_low: float
    value_high: float
    weights: tuple[Weights, ...]

    @property
    def unique(self) -> bool:
        """Whether the measured table has one equilibrium only; else `least` and `most` of the weights say how wide."""
        return all(weights.unique for weights in self.weights)

    def table(self) -> list[tuple[Any, ...]]:
        """A row for each action, with the columns player, action, probability, low, high, played, least, most."""
        return [
            (weights.player, *row)
            for weights in self.weights
            for row in zip(weights.actions, *(array.tolist() for array in weights[2:]), strict=True)
        ]

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame(dict(zip(COLUMNS, map(list, zip(*self.table(), strict=True)), strict=True)))

    def __repr__(self) -> str:
        kind = "a unique equilibrium" if self.unique else "an equilibrium that is not unique"
        interval = f"{self.value_low:.4g} to {self.value_high:.4g}"
        return f"Bootstrap({self.game.name}: value {self.value:.6g} ({interval}), {kind}, {self.draws:,} draws)"

    def _repr_html_(self) -> str:
        """For notebooks: the table."""
        rows = self.table()
        return html_table(repr(self), rows, COLUMNS, len(rows))


def bootstrap(
    game: Game | str | os.PathLike[str],
    *,
    draws: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
    maximal_entropy: bool = False,
) -> Bootstrap:
    """Intervals of the value and the equilibrium of a game whose payoffs were estimated from comparisons.

    Args:
        game: one that knows its comparisons or ballots, such as that of `games.preference.from_counts`; or its file.
        draws: how often the comparisons are drawn again.
        level: share of the tables drawn again that an interval holds, between 0 and 1.
        seed: of the draws, an integer >= 0.
        maximal_entropy: `measured` is of the equilibrium of maximal entropy, not of just any one where it is not
            unique. Intervals and `played` are of whatever equilibria the drawn tables have.

    Returns:
        `Bootstrap`, in whose intervals chance is; where the equilibrium is not unique it says so, and gives each
        probability's range over all equilibria.

    Raises:
        GameError: no game, one whose comparisons are not known, or numbers that are out of range.
    """
    game = as_game(game)
    sample = game.description.sample
    if sample is None:
        raise GameError(
            f"{game.name} does not say of how many comparisons its payoffs are: expected a file of counts, matches or "
            "ballots, or what games.preference.from_counts and its like return"
        )
    if not draws >= 1 or not 0 < level < 1:
        raise GameError(f"expected at least 1 draw and a level between 0 and 1, got {draws} and {level}")
    if seed < 0:
        raise GameError(f"expected a seed >= 0, got {seed}")
    found = solve_all(sample.draw(np.random.default_rng(seed), draws))
    exact = solve_exactly(game)
    policy = equilibrium_of_maximal_entropy(game) if maximal_entropy else exact.policy
    players = (0,) if game.description.symmetric else (0, 1)
    weights = tuple(_weights(game, player, policy.probabilities[player][1:], found, level) for player in players)
    low, high = _interval(found.values, exact.value, level)
    return Bootstrap(game, draws, level, exact.value, float(low), float(high), weights)


def _weights(game: Game, player: int, measured: Float[np.ndarray, " n"], found: Equilibria, level: float) -> Weights:
    strategies = found[player]
    name = "lottery" if game.description.symmetric else PLAYERS[player]
    played = (strategies > PLAYED).mean(axis=0)
    least, most = (end[1:] for end in optimal_range(game, player))
    actions = labels_of(game)[player].actions[0]
    return Weights(name, actions, measured, *_interval(strategies, measured, level), played, least, most)


def _interval(drawn: np.ndarray, measured: Any, level: float) -> tuple[Any, Any]:
    """The middle of what was drawn, widened where it takes that to hold what was measured."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.minimum(low, measured), np.maximum(high, measured)
