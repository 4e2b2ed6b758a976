"""What a method is told about the payoffs of its actions: expectations, sampled opponents, or a judge's verdicts.

In self-play every action of a player is compared with what the opponent plays. Exactly, that is the payoff gradient
A y; a method that compares answers sees an estimate of it, from n opponents b_1 ... b_n drawn from y:

    exact      g_a = sum_b A_ab y_b
    sampled    g_a = mean_k A_a,b_k                                             unbiased: E g = A y
    judge      g_a = mean_k V_a,b_k - 1/2,  V a verdict on the preference P = A + 1/2        E g = M(P) y - 1/2

where a verdict is 1 for the action, 0 for its opponent, 1/2 for a tie, and M(P) is its mean (`NoisyJudge.mean`). An
estimate is an evaluation like any other, and costs the comparisons that it asks for.

Methods draw both players' estimates with the same random key. In a symmetric game a symmetric profile therefore stays
symmetric, sample by sample: one model that plays itself. In other games the two estimates are correlated, each being
unbiased.

Letters: n opponents; S, T sequences of the player and of the opponent (a matrix game: its actions behind the empty
sequence, entry 0).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmd.game.game import Game, GameError, Number

ROUNDING = 1e-9  # by which a preference may lie outside [0, 1]


class Feedback(ABC):
    """Where payoff gradients come from. Defined on matrix games."""

    def check(self, game: Game) -> None:
        """Refuse a game that this feedback is not defined on, or numbers out of range (host code).

        Raises:
            GameError: the message says why.
        """
        return

    @abstractmethod
    def gradient(
        self, game: Game, player: int, opponent_plan: Float[Array, " T"], key: jax.Array
    ) -> Float[Array, " S"]:
        """The payoff gradient as a player is told it: half an evaluation (traceable).

        Args:
            game: a matrix game.
            player: 0 for the row player, 1 for the column player.
            opponent_plan: [T] the opponent's probabilities, behind a 1 for the empty sequence.
            key: of all draws; not used where nothing is drawn.

        Returns:
            [S] the estimated payoff of each action, in payoff units; 0 at the empty sequence.
        """

    @abstractmethod
    def calls(self, game: Game) -> int:
        """Comparisons that one evaluation asks for (host code).

        Both players' together; in a symmetric game, where both are the same model, those of one player.
        """


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exact(Feedback):
    """Expectations over the opponent's policy; every pair of actions is compared."""

    def gradient(
        self, game: Game, player: int, opponent_plan: Float[Array, " T"], key: jax.Array
    ) -> Float[Array, " S"]:
        """The exact payoff gradient, [S] in payoff units: A y for the row player, -A^T x for the column player."""
        return game.gradient(player, opponent_plan)

    def calls(self, game: Game) -> int:
        """2 m n for a game of m rows and n columns; m n in a symmetric game."""
        m, n = _sizes(game)
        return m * n if game.description.symmetric else 2 * m * n


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sampled(Feedback):
    """Payoffs against a few sampled opponents.

    Attributes:
        opponents: how many are drawn, with replacement.
    """

    opponents: int = field(default=1, metadata={"static": True})

    def check(self, game: Game) -> None:
        """Refuse a number of opponents that is not an integer >= 1.

        Raises:
            GameError: it is not.
        """
        _check_count(self.opponents, "opponents")

    def gradient(
        self, game: Game, player: int, opponent_plan: Float[Array, " T"], key: jax.Array
    ) -> Float[Array, " S"]:
        """Mean payoff of each action against `opponents` sampled actions of the opponent, [S] in payoff units.

        Unbiased: its expectation is the exact payoff gradient.
        """
        return self.against(game, player, draw(opponent_plan, self.opponents, key))

    def against(self, game: Game, player: int, opponents: Int[Array, " n"]) -> Float[Array, " S"]:
        """The gradient against the empirical distribution of these opponents, numbered as sequences."""
        return game.gradient(player, jnp.mean(_pure(game, player, opponents), axis=0))

    def calls(self, game: Game) -> int:
        """Opponents times m + n, for a game of m rows and n columns; in a symmetric game opponents times m."""
        return self.opponents * _compared(game)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NoisyJudge(Feedback):
    """Noisy verdicts on a preference P = payoff + 1/2 between an action and sampled opponents.

    The judge sees a pair in an order, either one with probability 1/2. It calls a tie with probability `ties`.
    Otherwise it prefers the action with probability P + order_bias if that is shown first, P - order_bias if second,
    clipped to [0, 1].

    Attributes:
        samples: opponents drawn, with replacement.
        order_bias: by how much the judge favours what is shown first, in [-1, 1].
        ties: probability of a tie, which counts 1/2, in [0, 1).
        both_orders: whether each pair is shown in both orders and the verdicts are averaged; twice the cost.
    """

    samples: int = field(default=1, metadata={"static": True})
    order_bias: Number = 0.0
    ties: Number = 0.0
    both_orders: bool = field(default=False, metadata={"static": True})

    def check(self, game: Game) -> None:
        """Refuse numbers out of their ranges, and a game whose payoffs are no preferences minus 1/2.

        Raises:
            GameError: `samples` is no integer >= 1, `order_bias` or `ties` is out of its range, or a payoff is outside
                [-1/2, 1/2] by more than rounding.
        """
        _check_count(self.samples, "samples")
        if not -1 <= self.order_bias <= 1:
            raise GameError(f"expected an order bias from -1 to 1, got {self.order_bias}")
        if not 0 <= self.ties < 1:
            raise GameError(f"expected a share of ties in [0, 1), got {self.ties}")
        values = game.payoff.entries().values
        if len(values) and np.abs(values).max() > 0.5 + ROUNDING:
            largest = np.abs(values).max()
            raise GameError(
                f"{game.name}: a judge compares, so it needs preferences, payoffs from -1/2 to 1/2: got one of size "
                f"{largest:g}; use Sampled, or games.preference"
            )

    def gradient(
        self, game: Game, player: int, opponent_plan: Float[Array, " T"], key: jax.Array
    ) -> Float[Array, " S"]:
        """Mean verdict on each action against `samples` sampled opponents, minus 1/2; [S], 0 at the empty sequence.

        Its expectation is M(P) y - 1/2 with M from `mean`, so it is the exact gradient where there is no bias and no
        tie. A verdict lies in [0, 1].
        """
        drawing, ordering, judging = jax.random.split(key, 3)
        opponents = draw(opponent_plan, self.samples, drawing)
        preference = self.preference(game, player, opponents)
        first = jax.random.bernoulli(ordering, 0.5, preference.shape)
        coins = jax.random.uniform(judging, (2, *preference.shape), preference.dtype)
        verdict = self.verdict(preference, first, coins[0])
        if self.both_orders:
            verdict = (verdict + self.verdict(preference, ~first, coins[1])) / 2
        return jnp.mean(verdict - 0.5, axis=0).at[0].set(0.0)

    def preference(self, game: Game, player: int, opponents: Int[Array, " n"]) -> Float[Array, "n S"]:
        """P, the probability that each action is preferred to each of these opponents; the opponents are sequences."""
        pure = _pure(game, player, opponents)
        return jax.vmap(lambda plan: game.gradient(player, plan))(pure) + 0.5

    def verdict(
        self, preference: Float[Array, "..."], first: Bool[Array, "..."], coin: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """One verdict for each preference: 1 for the action, 0 for its opponent, 1/2 for a tie.

        Args:
            preference: P.
            first: whether the action is shown first.
            coin: uniform on [0, 1).
        """
        wins = self.ties + (1 - self.ties) * self._shown(preference, first)
        return jnp.where(coin < self.ties, 0.5, (coin < wins).astype(preference.dtype))

    def mean(self, preference: Float[Array, "..."]) -> Float[Array, "..."]:
        """M(P), the expected verdict on an action that is preferred with probability P.

        Ties shrink the margin P - 1/2. The bias towards the first answer cancels between the two orders, except where
        P + order_bias or P - order_bias is clipped to [0, 1].

        M(P) - 1/2 = (1 - ties) (P - 1/2) where |order_bias| <= min(P, 1 - P): the same game in other units.
        """
        both = self._shown(preference, True) + self._shown(preference, False)
        return 0.5 + (1 - self.ties) * (both - 1) / 2

    def _shown(self, preference: Float[Array, "..."], first: Bool[Array, "..."] | bool) -> Float[Array, "..."]:
        return jnp.clip(jnp.where(first, preference + self.order_bias, preference - self.order_bias), 0.0, 1.0)

    def calls(self, game: Game) -> int:
        """Samples times m + n, in a symmetric game times m; twice that where pairs are shown in both orders."""
        return self.samples * (2 if self.both_orders else 1) * _compared(game)


Judge = NoisyJudge  # its name in version 0.1


def draw(plan: Float[Array, " T"], count: int, key: jax.Array) -> Int[Array, " n"]:
    """`count` actions drawn from a plan of one infoset, with replacement, numbered from 1 as sequences are."""
    return 1 + jax.random.categorical(key, jnp.log(plan[1:]), shape=(count,))


def _pure(game: Game, player: int, opponents: Int[Array, " n"]) -> Float[Array, "n T"]:
    """Plans that play one action each, of a player's opponent."""
    return jax.nn.one_hot(opponents, game.players[1 - player].n_sequences, dtype=float).at[:, 0].set(1.0)


def _check_count(count: int, what: str) -> None:
    if not isinstance(count, int) or count < 1:
        raise GameError(f"expected at least 1 of the {what}, got {count}")


def _sizes(game: Game) -> tuple[int, int]:
    return game.row.n_sequences - 1, game.column.n_sequences - 1


def _compared(game: Game) -> int:
    """Actions that are compared with each opponent."""
    m, n = _sizes(game)
    return m if game.description.symmetric else m + n
