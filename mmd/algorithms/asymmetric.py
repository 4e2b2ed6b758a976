"""Asymmetric perturbation (AsymP-GDA): only one player is pulled, and that player's solution is exact.

    x_t+1  =  Proj( x_t + eta ( q(y_t) - alpha x_t ) )        y_t+1  =  Proj( y_t + eta q(x_t+1) )

The perturbed player x minimises its payoff's loss plus alpha |x|^2 / 2, towards the uniform strategy; for alpha below a
constant of the game that chooses among its optimal strategies and does not leave them. Run once for each player: the
row strategy comes from the run in which the row player is perturbed, the column strategy from the other.

Source: Abe et al., "Asymmetric Perturbation in Solving Bilinear Saddle-Point Optimization", ICML 2026
(arXiv:2506.05747), Algorithm 1.

Proven: for alpha below that constant and a small enough eta the *last* iterate x converges linearly to an optimal
strategy of the *original* game. The constant is not known in advance; the paper halves alpha until the gap is small.

Deviations: alpha is constant here; above the constant of the game the limit is shifted. Both runs are made, also in a
symmetric game where the second is the mirror image of the first: two evaluations a step, four policies.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, logs, plans, projected
from mmd.game.game import Game, GameError, Number, Pair
from mmd.measure.theory import spectral_norm


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Asymmetric(SelfPlay):
    """AsymP-GDA; returns the last iterate.

    Attributes:
        alpha: strength of the perturbation (the paper's mu), in payoff units.
    """

    name: ClassVar[str] = "asymmetric"
    evaluations: ClassVar[int] = 2

    alpha: Number = 0.1

    def resolve(self, game: Game) -> Any:
        """Fill in the step size, 1 / (2 L) with L the spectral norm; check the numbers.

        Raises:
            GameError: as for the base; alpha is not positive.
        """
        if not self.alpha > 0:
            raise GameError(f"expected alpha > 0, got {self.alpha}")
        return super().resolve(game)

    def _default_eta(self, game: Game) -> Number:
        return 0.5 / (spectral_norm(game) or 1.0)

    def _start(self, game: Game, log_policy: Pair) -> Pair:
        """The plan of each run's unperturbed player: the column player's, then the row player's."""
        row, column = plans(log_policy)
        return (column, row)

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, Pair]:
        row, column = plans(state.log_policy)
        x, against_x = self._run(game, 0, (row, state.memory[0]), keys)
        y, against_y = self._run(game, 1, (column, state.memory[1]), keys)
        return logs((x, y)), (against_x, against_y)

    def _run(self, game: Game, player: int, seats: Pair, keys: list[jax.Array]) -> Pair:
        """A step of the run in which `player` is perturbed; half an evaluation for each of its two players."""
        x, y = seats
        q = self._told(game, player, y, keys[0])
        x = projected(x + self.eta * (q - self.alpha * x))
        return x, projected(y + self.eta * self._told(game, 1 - player, x, keys[1]))


ALGORITHM = Asymmetric
