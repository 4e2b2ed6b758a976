"""A pair of behavioural policies with names: what users read, save and verify.

Files: `.npz` (arrays `row` [S0 - 1] and `column` [S1 - 1] of probabilities in treeplex order, no pickle) and CSV with the
columns player (row or column), infoset, action, probability.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mmd.game import Game, GameError

MAX_NAMED_INFOSETS = 10_000
PLAYERS = ("row", "column")
SUM_TOLERANCE = 1e-6  # a policy file written with six digits is accepted, and renormalised


@dataclass(frozen=True)
class Policy:
    """Behavioural policies of both players.

    Attributes:
        game: whose infosets they belong to.
        probabilities: [S0] and [S1], float64: probability of each action at its infoset; entry 0 (the empty sequence)
            is 1.
    """

    game: Game
    probabilities: tuple[Float[np.ndarray, " S0"], Float[np.ndarray, " S1"]]

    @classmethod
    def from_log(cls, game: Game, log_policy: tuple[np.ndarray, np.ndarray]) -> "Policy":
        """From log-probabilities in any precision; every infoset is renormalised in float64."""
        exact = tuple(np.exp(np.asarray(log, np.float64)) for log in log_policy)
        return cls(game, tuple(_normalized(p, t) for p, t in zip(exact, game.players, strict=True)))

    def table(self) -> list[tuple[str, str, str, float]]:
        """Rows (player, infoset, action, probability), in treeplex order."""
        rows = []
        for player, probabilities, treeplex, labels in zip(
            PLAYERS, self.probabilities, self.game.players, _labels(self.game), strict=True
        ):
            for j, (first, n) in enumerate(zip(treeplex.first_sequence, treeplex.n_actions, strict=True)):
                for a in range(n):
                    rows.append((player, labels.infosets[j], labels.actions[j][a], float(probabilities[first + a])))
        return rows

    def as_dict(self) -> dict[str, dict] | None:
        """`{"row": ..., "column": ...}`: label -> probability for one-infoset games, else infoset -> {action: probability}.

        A symmetric game also has `"lottery"`, the mean of both players' strategies. None above 10,000 infosets.
        """
        if max(player.n_infosets for player in self.game.players) > MAX_NAMED_INFOSETS:
            return None
        nested: dict[str, dict] = {player: {} for player in PLAYERS}
        for player, infoset, action, probability in self.table():
            nested[player].setdefault(infoset, {})[action] = probability
        if self.game.is_matrix:
            nested = {player: next(iter(by_infoset.values())) for player, by_infoset in nested.items()}
            if self.game.description.symmetric:
                nested["lottery"] = self.lottery()
        return nested

    def lottery(self) -> dict[str, float]:
        """The mean of both players' strategies, by label: the maximal lottery of a symmetric game."""
        mean = (self.probabilities[0][1:] + self.probabilities[1][1:]) / 2
        return dict(zip(_labels(self.game)[0].actions[0], mean.tolist(), strict=True))
