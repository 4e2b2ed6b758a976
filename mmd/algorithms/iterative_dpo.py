"""Iterative DPO: each round fits the log ratios to the model before as if they were Bradley-Terry scores.

    pi_t+1  =  argmin_pi  - E_{y, y' ~ pi_t} [ P(y > y') log sigmoid(alpha d(y, y')) ]

with d the difference of log pi / pi_t between two answers.

With scores s = log pi / pi_t the minimum is where every answer wins as often as its score says,

    sum_y' pi_t(y') sigmoid(alpha (s_y - s_y'))  =  P(y > pi_t)        for all y,

and a round makes `inner` natural-gradient steps of size 2 / alpha towards it, from s = 0, with the win rates P(y >
pi_t) that were observed at its start: one evaluation a round.

Sources: Rafailov et al., "Direct Preference Optimization", NeurIPS 2023; in rounds, with the reference moved to the
last model, Xu et al., "Some Things Are More Cringe than Others: Preference Optimization with the Pairwise Cringe Loss",
2023; Xiong et al., "Iterative Preference Learning from Human Feedback", ICML 2024.

Proven: nothing about equilibria. It follows the Bradley-Terry scores, and where preferences run in circles its last
iterate circles and leaves every equilibrium of full support.

Deviations: the population loss, minimised by a fixed number of steps that cannot diverge (the loss has curvature at
most alpha / 2 in the norm of pi_t). Defined on symmetric preference games only, where win rates exist.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmd.algorithms._selfplay import SelfPlay, SelfPlayState, mirror, plans
from mmd.game.game import Game, GameError, Number, Pair


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class IterativeDPO(SelfPlay):
    """Iterative DPO; returns the last iterate. There is no step size but alpha.

    Attributes:
        alpha: coefficient of the log ratio in the loss (DPO's beta); a round moves by scores / alpha.
        inner: steps of a round.
    """

    name: ClassVar[str] = "iterative-dpo"

    alpha: Number = 1.0
    inner: int = field(default=10, metadata={"static": True})

    def resolve(self, game: Game) -> Any:
        """Check the numbers.

        Raises:
            GameError: as for the base; the game is not a symmetric preference game; a number is not positive.
        """
        if not game.is_matrix:
            return super().resolve(game)  # which says why not
        if not (game.description.symmetric and game.description.offset == 0.5):
            raise GameError(
                f"{self.name} fits win rates, so it is defined on preference games (a .json file of kind "
                f"pairwise_preference, or games.preference), and {game.name} is none: try self-play or inpo"
            )
        if not self.alpha > 0:
            raise GameError(f"expected alpha > 0, got {self.alpha}")
        if self.inner < 1:
            raise GameError(f"expected at least 1 inner step, got {self.inner}")
        return super().resolve(game)

    def _move(self, game: Game, state: SelfPlayState, keys: list[jax.Array]) -> tuple[Pair, tuple]:
        asked = self._asked(game, state.log_policy, keys[0])
        scores = tuple(map(self._scores, plans(state.log_policy), asked))
        return mirror(game, state.log_policy, scores, 1.0), ()

    def _scores(self, plan: Float[Array, " S"], payoff: Float[Array, " S"]) -> Float[Array, " S"]:
        """Log ratios to the model before, times one, up to a constant."""
        weights = plan.at[0].set(0.0)

        def closer(_: Array, scores: Array) -> Array:
            expected = jax.nn.sigmoid(self.alpha * (scores[:, None] - scores[None, :])) @ weights
            return scores + 2.0 / self.alpha * (payoff + 0.5 - expected)

        return jax.lax.fori_loop(0, self.inner, closer, jnp.zeros_like(plan)).at[0].set(0.0)


ALGORITHM = IterativeDPO
