"""How magnets move: averages of the past, with the weights that their shares say."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import games
import mmd
from games import kuhn_poker
from mmd import algorithms, magnets

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
    for k, log_policy in enumerate(steps, start=1):
        step = magnets.Step(log_policy, log_policy, log_policy, 1.0)
        log_magnet = magnet.moved(GAME, log_magnet, step, jnp.asarray(k))
    for seat, player in enumerate(GAME.players):
        mean = np.average([step[seat] for step in steps], axis=0, weights=weights)
        np.testing.assert_allclose(log_magnet[seat], player.normalized(jnp.asarray(mean)), rtol=0, atol=1e-12)


def test_a_share_falls_once_it_is_less_than_the_rate() -> None:
    ages = jnp.arange(1, 301)
    shares = jax.vmap(mmd.MovingAverage(rate=0.05, power=4.0).share)(ages)
    np.testing.assert_allclose(shares, np.minimum(0.05, 5 / (np.arange(1, 301) + 4)), rtol=1e-12, atol=0)
    assert float(shares[95]) == 0.05 > float(shares[96])


BAD = {
    "MovingAverage to have rate in (0, 1], got nan": mmd.MovingAverage(rate=float("nan")),
    "MovingAverage to have rate in (0, 1], got 0": mmd.MovingAverage(rate=0),
    "MovingAverage to have rate in (0, 1], got -0.1": mmd.MovingAverage(rate=-0.1),
    "MovingAverage to have rate in (0, 1], got 1.5": mmd.MovingAverage(rate=1.5),
    "MovingAverage to have rate in (0, 1], got None": mmd.MovingAverage(rate=None),
    "MovingAverage to have rate in (0, 1], got '0.5'": mmd.MovingAverage(rate="0.5"),
    "MovingAverage to have power >= 0 and finite in float32, got -1": mmd.MovingAverage(power=-1),
    "MovingAverage to have power >= 0 and finite in float32, got inf": mmd.MovingAverage(power=float("inf")),
    "Refresh to have every >= 1, in steps, got 0": mmd.Refresh(every=0),
    "Refresh to have every >= 1, in steps, got nan": mmd.Refresh(every=float("nan")),
    "Refresh to have residual >= 0 and finite in float32, got -0.3": mmd.Refresh(residual=-0.3),
    "Halpern to have strength >= 0 and finite in float32, got nan": mmd.Halpern(strength=float("nan")),
}


@pytest.mark.parametrize("words", BAD)
def test_a_magnets_number_that_is_out_of_its_range_is_refused(words: str) -> None:
    methods = (mmd.MagneticMirrorDescent(magnet=BAD[words]), algorithms.load("mpo")(magnet=BAD[words]))
    for algorithm in methods:
        with pytest.raises(mmd.GameError, match=f"^{re.escape(f'expected mmd.{words}')}$"):
            mmd.solve(games.load("preference:cycle"), algorithm, max_iterations=1)


def test_numbers_of_jax_and_tracers_are_numbers_as_well() -> None:
    rates = jnp.asarray([0.25, 1.0])
    for magnet in (mmd.MovingAverage(rate=rates[0], power=np.float32(2)), mmd.Refresh(every=np.int64(3))):
        assert magnet.resolve(GAME) is magnet
    shares = jax.vmap(lambda rate: mmd.MovingAverage(rate=rate).resolve(GAME).share(jnp.asarray(1)))(rates)
    np.testing.assert_array_equal(shares, rates)
