"""The conceptual prox: each magnet is the exact equilibrium of the game regularized towards the one before.

For every Nash equilibrium z* and every alpha > 0 (papers: Sokota et al. 2023; Wang et al. 2025; derivation from the
first- order condition), with u the payoff,

    alpha [KL(z*, z_n) - KL(z*, z_n+1) - KL(z_n+1, z_n)]  =  u0(x*, y_n+1) + u1(x_n+1, y*)  >=  0,

so KL(z*, z_n) decreases monotonically to *every* equilibrium at once, also where there are several.
"""

import numpy as np
import pytest

from games import kuhn_poker
from mmd.game.game import Game
from mmd.game.policy import labels_of
from tests.claims.reference import BIASED_RPS, dense_payoffs, kl_to, plan_of, quantal_response_equilibrium


def _several_equilibria() -> tuple[Game, list[tuple[np.ndarray, np.ndarray]]]:
    """Biased RPS with its first action doubled: any split of its weight is an equilibrium."""
    index = [0, 0, 1, 2]
    game = Game.from_matrix(BIASED_RPS[np.ix_(index, index)])
    splits = [(0.5, 0.5), (0.9, 0.1), (0.2, 0.8)]
    one = [np.log([1.0, 0.2 * a, 0.2 * b, 0.6, 0.2]) for a, b in splits]
    return game, [(x, y) for x in one for y in one]


@pytest.mark.parametrize("alpha", [0.05, 0.5, 5.0])
def test_identity_and_monotone_kl_to_every_equilibrium(alpha: float) -> None:
    game, equilibria = _several_equilibria()
    matrix = dense_payoffs(game)
    magnet = tuple(np.log([1.0, 0.1, 0.2, 0.3, 0.4]) for _ in range(2))
    for _ in range(6):
        moved = quantal_response_equilibrium(game, alpha, magnet)
        x, y = (plan_of(player, log) for player, log in zip(game.players, moved, strict=True))
        for equilibrium in equilibria:
            x_star, y_star = (plan_of(player, log) for player, log in zip(game.players, equilibrium, strict=True))
            decrease = kl_to(game, equilibrium, magnet) - kl_to(game, equilibrium, moved)
            gain = x_star @ matrix @ y - x @ matrix @ y_star
            np.testing.assert_allclose(alpha * (decrease - kl_to(game, moved, magnet)), gain, rtol=0, atol=1e-11)
            assert gain >= -1e-12
            assert decrease >= -1e-12
        magnet = moved


KUHN_ROW = {  # probability of bet; b is the jack's bluffing rate (Kuhn 1950)
    "J|": lambda b: b,
    "Q|": lambda b: 0.0,
    "K|": lambda b: 3 * b,
    "J|pb": lambda b: 0.0,
    "Q|pb": lambda b: b + 1 / 3,
    "K|pb": lambda b: 1.0,
}
KUHN_COLUMN = {"J|p": 1 / 3, "Q|p": 0.0, "K|p": 1.0, "J|b": 0.0, "Q|b": 1 / 3, "K|b": 1.0}


def _kuhn_equilibrium(game: Game, bluff: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-policies; probability 0 is written as 1e-30, which moves no number here."""
    tables = ({infoset: bet(bluff) for infoset, bet in KUHN_ROW.items()}, KUHN_COLUMN)
    policies = []
    for player, labels, table in zip(game.players, labels_of(game), tables, strict=True):
        policy = np.ones(player.n_sequences)
        for j, infoset in enumerate(labels.infosets):
            for a, action in enumerate(labels.actions[j]):
                bet = table[infoset]
                policy[player.first_sequence[j] + a] = bet if action == "bet" else 1 - bet
        policies.append(np.log(np.maximum(policy, 1e-30)))
    return policies[0], policies[1]


def test_identity_on_a_tree() -> None:
    """Kuhn poker, against two of its equilibria (the row player's family has one parameter, 0 <= bluff <= 1/3)."""
    game = kuhn_poker.game()
    equilibria = [_kuhn_equilibrium(game, bluff) for bluff in (0.1, 0.3)]
    matrix = dense_payoffs(game)
    magnet = tuple(np.asarray(player.dilated_center()) for player in game.players)
    for _ in range(3):
        moved = quantal_response_equilibrium(game, 0.3, magnet)
        x, y = (plan_of(player, log) for player, log in zip(game.players, moved, strict=True))
        for equilibrium in equilibria:
            x_star, y_star = (plan_of(player, log) for player, log in zip(game.players, equilibrium, strict=True))
            np.testing.assert_allclose(x_star @ matrix @ y_star, -1 / 18, rtol=0, atol=1e-9)
            decrease = kl_to(game, equilibrium, magnet) - kl_to(game, equilibrium, moved)
            gain = x_star @ matrix @ y - x @ matrix @ y_star
            np.testing.assert_allclose(0.3 * (decrease - kl_to(game, moved, magnet)), gain, rtol=0, atol=1e-9)
            assert decrease > 0
        magnet = moved
