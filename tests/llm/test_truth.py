"""MPO on games whose duality gap is known, in the short form of `benchmarks.truth.run`, and that benchmark's own parts.

Most are on `cycle/0`, whose equilibrium has three classes of responses at (4, 3, 4) / 11.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import games
import llm_bridge as bridge
import mmd
from benchmarks.truth import games as truth_games
from benchmarks.truth import run as truth
from benchmarks.truth import styles
from benchmarks.truth.arena import TableArena, table
from benchmarks.truth.decoder import reading
from llm_bridge.train.arena import Source
from llm_bridge.train.mpo import MPO
from llm_bridge.train.objective import Regression
from mmd.update import magnetic_step

ALPHA, KEY = 0.1, jax.random.key(5)
GAME = truth_games.named("cycle/0")


@cache
def parts() -> tuple[TableArena, bridge.Policy, Any]:
    """The table of the game, the policy at the start, and its decoder as a reader of prefixes."""
    policy = truth.policy_of(GAME, 0)
    return TableArena(GAME, table(GAME), exact=True), policy, reading(policy.decoder, 1, 4)


@jax.jit
def log_probs(weights: dict[str, Array]) -> Array:
    """Of every response, by the reader with these weights."""
    arena, _, reader = parts()
    return arena.log_probs(Source(reader, weights))


def exact(every: int, rounds: int) -> np.ndarray:
    """Gaps of the last iterate every 10 rounds; a magnet that is never copied makes it INPO."""
    exact = {"epochs": 8, "learning_rate": 3e-3, "eps": 1e-8, "watch_start": False}
    method = MPO(eta=1.6, alpha=ALPHA, magnet=mmd.Refresh(every=every), estimator=Regression(), **exact)
    return truth.course(((method, rounds),), GAME, range(1), exact=True)[0, :, 0, 0]


def test_a_table_of_prefixes_is_the_decoder_with_its_gradient() -> None:
    arena, policy, reader = parts()
    weight = jax.random.normal(KEY, (1, 64), jnp.float32)

    @jax.jit
    def both(weights: dict[str, Array]) -> list[tuple[Array, dict[str, Array]]]:
        def total(weights: dict[str, Array], decoder: object) -> Array:
            return jnp.sum(weight * arena.log_probs(Source(decoder, weights)))

        return [jax.value_and_grad(total)(weights, decoder) for decoder in (policy.decoder, reader)]

    plain, read = both(policy.arrays())
    np.testing.assert_allclose(plain[0], read[0], rtol=1e-5, atol=0)
    assert max(float(jnp.abs(part).max()) for part in plain[1].values()) > 1
    for name, part in plain[1].items():
        np.testing.assert_allclose(part, read[1][name], rtol=0, atol=2e-4, err_msg=name)


def test_a_moving_magnet_ends_where_a_fixed_one_cannot() -> None:
    """Exact expectations. INPO stays at the gap of the equilibrium regularized towards the start, which is computed on
    the table; MPO with the same numbers gets below 1e-3 of the original game."""
    log_start = log_probs(parts()[1].arrays())[0].astype(jnp.float64)
    preference = jnp.asarray(GAME.preferences[0])

    def step(_: int, log_policy: Array) -> Array:
        return magnetic_step(log_policy, log_start, preference @ jnp.exp(log_policy) - 0.5, 0.3, ALPHA)[0]

    regularized = jnp.exp(jax.lax.fori_loop(0, 600, step, log_start))
    stalls = 2 * float(jnp.max(preference @ regularized) - 0.5)
    assert stalls > 0.03
    np.testing.assert_allclose(exact(10**6, 150)[-1], stalls, rtol=0.02, atol=0)
    assert exact(10, 150)[-1] < 1e-3


def test_with_samples_the_gap_falls_to_a_floor() -> None:
    """Of eight classes five are out of the equilibrium; a circle's would be the same with all preferences turned."""
    method = MPO(eta=0.8, alpha=ALPHA, magnet=mmd.MovingAverage(rate=0.05), **truth_settings())
    found = truth.course(((method, 150),), truth_games.named("rand8/0"), range(1))[0, :, :, 0]
    assert found[0, 0] > 0.2
    assert found[-1, truth.KINDS.index("exported")] < 0.04


def truth_settings() -> dict[str, object]:
    return {"group_size": 64, "epochs": 4, "learning_rate": 2e-3, "eps": 1e-3, "watch_start": False}


def test_a_further_game_is_found_again_and_no_scalar_reward_explains_it() -> None:
    """A reward makes log-odds a difference of scores, so they would add up along any three responses."""
    preference = truth_games.named("cycle/1").preferences[0]
    np.testing.assert_allclose(preference + preference.T, 1, rtol=0, atol=1e-12)
    odds = np.log(preference / (1 - preference))
    assert np.abs(odds[:, :, None] + odds[None, :, :] - odds[:, None, :]).max() > 1


def test_the_style_judge_has_the_known_equilibrium_and_reads_answers_as_text() -> None:
    found = mmd.solve_exactly(games.preference.game(styles.PREFERENCE)).probabilities[0][-3:]
    np.testing.assert_allclose(found, styles.EQUILIBRIUM, rtol=0, atol=1e-9)
    prompt = styles.question("owl", "lake")
    answers = [
        "the owl is old .",
        "dear friend , the owl is shy .",
        "wow ! the owl is so old !",
        "wow ! the fox is so old !",
    ]
    assert [styles.style_of(prompt, answer) for answer in answers] == [0, None, 2, None]
    assert styles.preference(prompt, answers[0], answers[2]) == pytest.approx(0.8)
    assert styles.preference(prompt, answers[2], answers[1]) == 1
    assert styles.gap(np.array([*styles.EQUILIBRIUM, 0])) == pytest.approx(0, abs=1e-12)
    assert styles.gap(np.array([*0.9 * styles.EQUILIBRIUM, 0.1])) == pytest.approx(0.1)
