"""The update: one-step values from the literature, optimality, and its equivalence with mirror descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmd.simplex import entropy, kl_divergence, masked_log_softmax
from mmd.update import magnetic_objective, magnetic_step, sampled_objective

POLICY = jnp.log(jnp.array([0.2, 0.2, 0.6]))
PAYOFF = jnp.array([1.0, 0.0, -1.0])


@pytest.mark.parametrize(
    ("magnet", "eta", "alpha", "expected"),
    [
        ([1 / 3, 1 / 3, 1 / 3], 1.0, 0.5, [0.48503162, 0.24902354, 0.26594485]),
        ([0.5, 0.25, 0.25], 0.5, 0.2, [0.38124784, 0.22721367, 0.39153849]),
    ],
)
def test_one_step_fixtures(magnet: list[float], eta: float, alpha: float, expected: list[float]) -> None:
    step, _ = magnetic_step(POLICY, jnp.log(jnp.array(magnet)), PAYOFF, eta, alpha)
    np.testing.assert_allclose(np.exp(step), expected, rtol=0, atol=1e-8)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e2), st.floats(0, 1e2))
def test_step_maximizes_the_objective_and_returns_its_maximum(seed: int, eta: float, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    policy, magnet = (masked_log_softmax(jnp.asarray(rng.normal(size=5))) for _ in range(2))
    payoff = jnp.asarray(rng.normal(size=5))
    step, value = magnetic_step(policy, magnet, payoff, eta, alpha)

    def objective(log_candidate: jax.Array) -> jax.Array:
        return magnetic_objective(log_candidate, policy, magnet, payoff, eta, alpha)

    scale = 1 + alpha + 1 / eta
    np.testing.assert_allclose(objective(step), value, rtol=0, atol=1e-13 * scale)
    for _ in range(5):
        other = masked_log_softmax(step + rng.normal(size=5))
        assert objective(other) <= value + 1e-13 * scale
    slope = jax.grad(lambda logits: objective(masked_log_softmax(logits)))(step)
    np.testing.assert_allclose(slope, 0, rtol=0, atol=1e-13 * scale)


@given(st.integers(0, 2**32 - 1), st.floats(1e-2, 10), st.floats(0, 10))
def test_equals_mirror_descent_on_the_regularized_payoff(seed: int, eta: float, alpha: float) -> None:
    """Prop. D.7 of the MMD paper: step eta / (1 + eta alpha) on q - alpha (log pi - log mu)."""
    rng = np.random.default_rng(seed)
    policy, magnet = (masked_log_softmax(jnp.asarray(rng.normal(size=4))) for _ in range(2))
    payoff = jnp.asarray(rng.normal(size=4))
    step, _ = magnetic_step(policy, magnet, payoff, eta, alpha)
    regularized = payoff - alpha * (policy - magnet)
    np.testing.assert_allclose(
        step, masked_log_softmax(policy + eta / (1 + eta * alpha) * regularized), rtol=0, atol=1e-12
    )


def test_the_sampled_objective_is_the_objective_on_average_over_sampled_actions(rng: np.random.Generator) -> None:
    """Value and gradient, summed over all actions with the weight pi, at a candidate far from pi."""
    candidate, policy, magnet = (masked_log_softmax(jnp.asarray(rng.normal(size=7))) for _ in range(3))
    payoff, eta, alpha = jnp.asarray(rng.normal(size=7)), 0.7, 0.3

    def exact(logits: jax.Array) -> jax.Array:
        return magnetic_objective(masked_log_softmax(logits), policy, magnet, payoff, eta, alpha)

    def averaged(logits: jax.Array) -> jax.Array:
        log_candidate = masked_log_softmax(logits)
        divergences = kl_divergence(log_candidate, magnet), kl_divergence(log_candidate, policy)
        ratio = jnp.exp(log_candidate - policy)
        each = [sampled_objective(r, q, *divergences, eta, alpha) for r, q in zip(ratio, payoff, strict=True)]
        return jnp.sum(jnp.exp(policy) * jnp.stack(each))

    (expected, slope), (found, its_slope) = (jax.value_and_grad(f)(candidate) for f in (exact, averaged))
    assert jnp.abs(slope).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(its_slope, slope, rtol=0, atol=1e-12)


def test_illegal_actions_stay_out_of_the_step() -> None:
    legal = jnp.array([True, False, True, True])
    policy = masked_log_softmax(jnp.arange(4.0), legal)
    magnet = masked_log_softmax(jnp.zeros(4), legal)
    payoff = jnp.array([0.3, 100.0, -0.2, 0.7])
    step, value = magnetic_step(policy, magnet, payoff, 0.5, 0.2, legal=legal)
    inner = jnp.array([0, 2, 3])
    small, small_value = magnetic_step(policy[inner], magnet[inner], payoff[inner], 0.5, 0.2)
    np.testing.assert_allclose(step[inner], small, rtol=0, atol=1e-15)
    assert step[1] == -jnp.inf
    np.testing.assert_allclose(value, small_value, rtol=0, atol=1e-15)


def test_divergences_of_distributions_with_zeros() -> None:
    p, q = jnp.log(jnp.array([0.5, 0.5, 0.0])), jnp.log(jnp.array([0.25, 0.5, 0.25]))
    np.testing.assert_allclose(kl_divergence(p, q), 0.5 * np.log(2), rtol=0, atol=1e-15)
    assert kl_divergence(q, p) == np.inf
    np.testing.assert_allclose(entropy(p), np.log(2), rtol=0, atol=1e-15)
