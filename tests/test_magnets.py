"""How magnets move: averages of the past, with the weights that their shares say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmd
from games import kuhn_poker

GAME = kuhn_poker.game()


def policies(n: int) -> list[tuple[jax.Array, ...]]:
    """Random log-policies of both players."""
    rng = np.random.default_rng(0)
    return [tuple(t.normalized(jnp.asarray(rng.normal(size=t.n_sequences))) for t in GAME.players) for _ in range(n)]


@pytest.mark.parametrize(("power", "weights"), [(0, [1, 1, 1, 1]), (1, [1, 2, 3, 4]), (2, [2, 6, 12, 20])])
def test_a_falling_share_averages_the_whole_past(power: int, weights: list[int]) -> None:
    """Shares (c + 1) / (k + c) leave step k the weight k (k + 1) ... (k + c - 1) among all, and the start none (Shamir
    and Zhang 2013, section 4)."""
    magnet, steps = mmd.MovingAverage(rate=1.0, power=power), policies(4)
    log_magnet = magnet.start(GAME)
    for age, log_policy in enumerate(steps, start=1):
        log_magnet = magnet.follow(GAME, log_magnet, log_policy, jnp.asarray(age))
    for seat, player in enumerate(GAME.players):
        mean = np.average([step[seat] for step in steps], axis=0, weights=weights)
        np.testing.assert_allclose(log_magnet[seat], player.normalized(jnp.asarray(mean)), rtol=0, atol=1e-12)


def test_a_share_falls_once_it_is_less_than_the_rate() -> None:
    ages = jnp.arange(1, 301)
    shares = jax.vmap(mmd.MovingAverage(rate=0.05, power=4.0).share)(ages)
    np.testing.assert_allclose(shares, np.minimum(0.05, 5 / (np.arange(1, 301) + 4)), rtol=1e-12, atol=0)
    assert float(shares[95]) == 0.05 > float(shares[96])
