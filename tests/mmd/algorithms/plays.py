"""Every play of Kuhn poker, one by one: what the algorithms that work infoset by infoset are checked against.

A behavioural policy is a dictionary: the label of an infoset -> the probabilities of its actions.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmd
from mmd.algorithms.contract import Algorithm
from mmd.game.game import Game, HostPair, Pair
from mmd.game.policy import Policy
from mmd.game.treeplex import Treeplex

Policies = dict[str, np.ndarray]


class Decision(NamedTuple):
    """Who did what where."""

    player: int
    label: str
    action: int


class Play(NamedTuple):
    """One way the game can go: how likely chance makes it, what both players get, and their decisions in order."""

    chance: float
    payoffs: tuple[float, float]
    decisions: tuple[Decision, ...]

    def likelihood(self, policy: Policies, player: int | None = None, after: Decision | None = None) -> float:
        """Product of the policy's probabilities along the play, of one player or of both, from some decision on."""
        start = 0 if after is None else self.decisions.index(after) + 1
        return math.prod(policy[d.label][d.action] for d in self.decisions[start:] if player in (None, d.player))


def plays_of_kuhn_poker() -> list[Play]:
    """Six deals times five ways to bet: the pot goes to who did not fold, else to the higher card."""
    plays = []
    for cards in itertools.permutations("JQK", 2):
        higher = 1.0 if "JQK".index(cards[0]) > "JQK".index(cards[1]) else -1.0
        won = {"pp": higher, "bb": 2 * higher, "pbb": 2 * higher, "bp": 1.0, "pbp": -1.0}
        for bets, payoff in won.items():
            labels = [f"{cards[k % 2]}|{bets[:k]}" for k in range(len(bets))]
            decisions = (Decision(k % 2, label, "pb".index(bets[k])) for k, label in enumerate(labels))
            plays.append(Play(1 / 6, (payoff, -payoff), tuple(decisions)))
    return plays


PLAYS = plays_of_kuhn_poker()
DECISIONS = sorted({decision for play in PLAYS for decision in play.decisions})


def conditional_values(policy: Policies, payoff: Callable[[Play, int], float]) -> Policies:
    """The expected payoff of the player to move at each infoset, given that it is reached and each action taken."""
    values: Policies = {d.label: np.zeros(2) for d in DECISIONS}
    for decision in DECISIONS:
        through = [play for play in PLAYS if decision in play.decisions]
        weights = np.array([play.chance * play.likelihood(policy) for play in through])
        paid = np.array([payoff(play, decision.player) for play in through])
        values[decision.label][decision.action] = weights @ paid / weights.sum()
    return values


def action_values(game: Game, policy: HostPair, player: int) -> np.ndarray:
    """[S] the player's expected payoff given that an infoset is reached and an action taken, in any game.

    From the payoffs by coordinate, one by one, each carried up to every decision of the player above it.
    """
    plans = [realization(treeplex, p) for treeplex, p in zip(game.players, policy, strict=True)]
    mine, theirs = plans[player], plans[1 - player]
    treeplex = game.players[player]
    assert game.description.plays is not None
    totals = []
    for entries in (game.payoff.entries(), game.description.plays()):
        total = np.zeros(len(mine))
        for row, column, number in zip(*entries, strict=True):
            leaf, other = (row, column) if player == 0 else (column, row)
            sequence = leaf
            while sequence > 0:
                total[sequence] += number * theirs[other] * mine[leaf] / mine[sequence]
                sequence = treeplex.parent[treeplex.owner[sequence]]
        totals.append(total)
    paid, likely = totals
    values = np.zeros(len(mine))
    for first, n in zip(treeplex.first_sequence, treeplex.n_actions, strict=True):
        at = slice(first, first + n)
        values[at] = (1 - 2 * player) * paid[at] / (likely[at] @ policy[player][at])
    return values


def realization(treeplex: Treeplex, policy: np.ndarray) -> np.ndarray:
    """The plan of a behavioural policy: parents come before their children."""
    plan = np.ones(treeplex.n_sequences)
    for sequence in range(1, treeplex.n_sequences):
        plan[sequence] = plan[treeplex.parent[treeplex.owner[sequence]]] * policy[sequence]
    return plan


def reach(policy: Policies) -> dict[str, float]:
    """How likely chance and the opponent reach each infoset."""
    found = dict.fromkeys((d.label for d in DECISIONS), 0.0)
    for decision in DECISIONS:
        if decision.action == 0:  # any action of the infoset, weighed with 1
            for play in PLAYS:
                if decision in play.decisions:
                    others = play.likelihood(policy, 1 - decision.player)
                    found[decision.label] += play.chance * others * play.likelihood(policy, decision.player, decision)
    return found


def by_infoset(game: mmd.Game, log_policy: Pair | HostPair) -> Policies:
    """A pair of log-policies as a dictionary."""
    named: dict[str, list[float]] = {}
    for _, infoset, _, probability in Policy.from_log(game, jax.device_get(log_policy)).table():
        named.setdefault(infoset, []).append(probability)
    return {label: np.array(probabilities) for label, probabilities in named.items()}


@jax.jit
def advance(algorithm: Algorithm, game: mmd.Game, state: Any, iteration: int) -> Any:
    """The state after that many iterations; one compiled program for all of them."""
    return jax.lax.while_loop(lambda s: s.iteration < iteration, lambda s: algorithm.step(game, s), state)


def states(game: mmd.Game, algorithm: Any, iterations: Iterable[int], start: HostPair | None = None) -> list[Any]:
    """States after some iterations, from uniform play unless a start is given."""
    algorithm = jax.tree.map(jnp.asarray, algorithm.resolve(game))
    start = start or tuple(player.uniform() for player in game.players)
    state, found = algorithm.init(game, tuple(jnp.asarray(log) for log in start)), []
    for iteration in iterations:
        state = advance(algorithm, game.astype(jnp.float64), state, iteration)
        found.append(jax.device_get(state))
    return found


def last_iterates(
    game: mmd.Game, algorithm: Any, iterations: Iterable[int], start: HostPair | None = None
) -> list[HostPair]:
    """Their log-policies, of an algorithm whose state holds its last iterate."""
    return [state.iterate.log_policy for state in states(game, algorithm, iterations, start)]
