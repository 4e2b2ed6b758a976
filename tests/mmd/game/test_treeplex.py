"""Sweeps over random treeplexes, against definitions evaluated the slow way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmd.game import blocks
from mmd.game import treeplex as treeplex_module
from mmd.game.treeplex import HostSweeps, Treeplex

SEEDS = st.integers(0, 2**32 - 1)
NORMALIZED = jax.jit(Treeplex.normalized)


def random_treeplex(rng: np.random.Generator, max_infosets: int = 7) -> Treeplex:
    """Each infoset hangs from a random earlier sequence. One of eight trees, so that programs compile once for many
    draws."""
    rng = np.random.default_rng(rng.integers(8))
    n_actions = rng.integers(1, 4, size=rng.integers(1, max_infosets + 1))
    first = 1 + np.cumsum(n_actions) - n_actions
    return Treeplex.build(np.array([rng.integers(0, start) for start in first]), n_actions)[0]


def random_policy(rng: np.random.Generator, treeplex: Treeplex) -> jnp.ndarray:
    return NORMALIZED(treeplex, jnp.asarray(rng.normal(size=treeplex.n_sequences)))


def plan_of(treeplex: Treeplex, policy: np.ndarray) -> np.ndarray:
    """Realisation probabilities by the definition, one infoset at a time (levels make the order valid)."""
    plan = np.zeros(treeplex.n_sequences)
    plan[0] = 1
    for parent, first, n in zip(treeplex.parent, treeplex.first_sequence, treeplex.n_actions, strict=True):
        plan[first : first + n] = plan[parent] * policy[first : first + n]
    return plan


def dilated_kl(treeplex: Treeplex, log_p: np.ndarray, log_q: np.ndarray, weights: np.ndarray) -> float:
    plan = plan_of(treeplex, np.exp(log_p))
    total = 0.0
    for j, (first, n) in enumerate(zip(treeplex.first_sequence, treeplex.n_actions, strict=True)):
        at = slice(first, first + n)
        total += weights[j] * np.sum(plan[at] * (log_p[at] - log_q[at]))
    return total


def pure_policies(treeplex: Treeplex) -> list[np.ndarray]:
    choices = product(*(range(n) for n in treeplex.n_actions))
    policies = []
    for choice in choices:
        policy = np.zeros(treeplex.n_sequences)
        policy[treeplex.first_sequence + np.array(choice)] = 1
        policies.append(policy)
    return policies


@given(SEEDS)
def test_build_keeps_the_tree(seed: int) -> None:
    """Renumbering is a tree isomorphism: parents of renumbered infosets are the renumbered parents."""
    rng = np.random.default_rng(seed)
    n_actions = rng.integers(1, 4, size=rng.integers(1, 12))
    first = 1 + np.cumsum(n_actions) - n_actions
    parent = np.array([rng.integers(0, start) for start in first])
    built, order = Treeplex.build(parent, n_actions)
    assert sorted(order.sequences) == list(range(built.n_sequences))
    np.testing.assert_array_equal(built.parent, order.sequences[parent[order.infosets]])
    np.testing.assert_array_equal(built.n_actions, n_actions[order.infosets])
    np.testing.assert_array_equal(built.first_sequence, order.sequences[first[order.infosets]])
    assert (built.parent < built.first_sequence).all()


@contextmanager
def laid_out(layout: str) -> Iterator[None]:
    """Sweep over blocks as they are, over one padded group a level, or over levels in a loop."""
    with pytest.MonkeyPatch.context() as patch:
        if layout == "padded":
            patch.setattr(blocks, "MAX_BLOCKS", 0)
            patch.setattr(blocks, "GROUP_ENTRIES", 1e12)
        if layout == "scanned":
            patch.setattr(treeplex_module, "MAX_UNROLLED_LEVELS", 0)
        blocks.in_groups.cache_clear()
        yield
    blocks.in_groups.cache_clear()


@cache
def program(layout: str, sweeps: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
    """A program of its own for each layout; `uncompiled` sweeps in it, as a compiled one keeps the layout it met."""
    compiled = jax.jit(lambda *arguments: sweeps(*arguments))

    def run(*arguments: object) -> list[jax.Array]:
        with laid_out(layout):
            return compiled(*arguments)

    return run


def uncompiled(sweep: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return sweep.__wrapped__


def one_step(treeplex: Treeplex, *arguments: jax.Array) -> list[jax.Array]:
    return [uncompiled(Treeplex.magnetic_step)(treeplex, *arguments)]


def every_sweep(treeplex: Treeplex, log_policy: jax.Array, gradient: jax.Array) -> list[jax.Array]:
    value, regret = uncompiled(Treeplex.best_response)(treeplex, gradient)
    weights = uncompiled(Treeplex.range_weights)(treeplex, jnp.abs(gradient))
    plan = uncompiled(Treeplex.plan_of_probabilities)(treeplex, jnp.exp(log_policy))
    return [plan, value, regret, weights, treeplex.normalized(gradient), treeplex.over_sequences(weights)]


@pytest.mark.parametrize("layout", ["blocks", "padded", "scanned"])
@settings(max_examples=25)
@given(seed=SEEDS)
def test_prox_is_the_maximizer(layout: str, seed: int) -> None:
    """No plan does better than the returned one on <x, g> - alpha KL(x, magnet) - KL(x, policy) / eta."""
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    policy, magnet = random_policy(rng, treeplex), random_policy(rng, treeplex)
    gradient = rng.normal(size=treeplex.n_sequences)
    weights = rng.uniform(0.1, 3, size=treeplex.n_infosets)
    eta, alpha = rng.uniform(0.1, 3), rng.uniform(0, 2)

    def objective(log_policy: np.ndarray) -> float:
        plan = plan_of(treeplex, np.exp(log_policy))
        pull = alpha * dilated_kl(treeplex, log_policy, np.asarray(magnet), weights)
        return float(plan @ gradient) - pull - dilated_kl(treeplex, log_policy, np.asarray(policy), weights) / eta

    (step,) = program(layout, one_step)(treeplex, policy, magnet, gradient, eta, alpha, weights)
    step = np.asarray(step)
    best = objective(step)
    for size in (1e-3, 1e-1, 1):
        other = np.asarray(NORMALIZED(treeplex, step + size * rng.normal(size=len(step))))
        assert objective(other) <= best + 1e-12
    # and first order: the objective's change is of second order in the displacement
    direction = rng.normal(size=len(step))
    for sign in (1, -1):
        near = np.asarray(NORMALIZED(treeplex, step + sign * 1e-5 * direction))
        assert best - objective(near) < 1e-7


@given(SEEDS)
def test_plans_and_best_responses_by_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    log_policy = random_policy(rng, treeplex)
    plan = treeplex.top_down(log_policy)
    np.testing.assert_allclose(plan, plan_of(treeplex, np.exp(log_policy)), rtol=0, atol=1e-15)
    gradient = rng.normal(size=treeplex.n_sequences)
    enumerated = max(plan_of(treeplex, pure) @ gradient for pure in pure_policies(treeplex))
    value, regret = treeplex.best_response(jnp.asarray(gradient))
    np.testing.assert_allclose(value, enumerated, rtol=0, atol=1e-12)
    greedy = np.where(np.asarray(regret) == 0, 1.0, 0.0)
    np.testing.assert_allclose(plan_of(treeplex, greedy) @ gradient, enumerated, rtol=0, atol=1e-12)
    np.testing.assert_allclose(treeplex.host_plan(np.exp(log_policy)), plan, rtol=0, atol=1e-15)
    values = treeplex.host_best(gradient)
    np.testing.assert_allclose(values[0], enumerated, rtol=0, atol=1e-12)
    below = gradient.copy()
    np.add.at(below, treeplex.parent, values[1:])
    np.testing.assert_allclose(below[1:] - np.repeat(values[1:], treeplex.n_actions), regret[1:], rtol=0, atol=1e-12)


@settings(max_examples=20)
@given(SEEDS)
def test_the_sweeps_of_a_host_loop_by_enumeration(seed: int) -> None:
    """The regret of an action is what it would gain if play got there and the policy went on as it is."""
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    sweeps, policy = HostSweeps(treeplex), np.exp(random_policy(rng, treeplex))
    gradient = rng.normal(size=treeplex.n_sequences)
    plan = plan_of(treeplex, policy)
    np.testing.assert_allclose(sweeps.plan(policy), plan, rtol=0, atol=1e-15)
    assert abs(sweeps.best(gradient) - max(plan_of(treeplex, p) @ gradient for p in pure_policies(treeplex))) <= 1e-12
    regrets = sweeps.regrets(gradient, policy)
    for sequence in range(1, treeplex.n_sequences):
        infoset = treeplex.owner[sequence]
        instead = np.where(treeplex.owner == infoset, 0.0, policy)
        instead[sequence] = 1.0
        gained = (plan_of(treeplex, instead) - plan) @ gradient / plan[treeplex.parent[infoset]]
        assert abs(regrets[sequence] - gained) <= 1e-9
    weights = np.where(rng.random(treeplex.n_sequences) < 0.5, -1.0, rng.random(treeplex.n_sequences))
    matched = sweeps.proportional(weights)
    for infoset in range(treeplex.n_infosets):
        own = np.flatnonzero(treeplex.owner == infoset)
        own = own[own > 0]
        positive = np.maximum(weights[own], 0.0)
        positive = positive if positive.any() else np.ones_like(positive)
        np.testing.assert_allclose(matched[own], positive / positive.sum(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("layout", ["padded", "scanned"])
@settings(max_examples=15)
@given(seed=SEEDS)
def test_the_layout_of_a_sweep_does_not_matter(layout: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng, max_infosets=14)
    log_policy = random_policy(rng, treeplex)
    gradient = jnp.asarray(rng.normal(size=treeplex.n_sequences))

    expected = program("blocks", every_sweep)(treeplex, log_policy, gradient)
    found = program(layout, every_sweep)(treeplex, log_policy, gradient)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    *_, weights, _, repeated = found
    np.testing.assert_array_equal(repeated[1:], np.repeat(weights, treeplex.n_actions))


def test_groups_cover_a_level_and_pad_only_where_blocks_are_many() -> None:
    """Liar's dice has a level with 11 numbers of actions; cutting it costs less than its blocks and than one group."""
    counts = np.repeat(np.arange(1, 12), np.arange(66, 0, -6))
    treeplex = Treeplex.build(np.zeros(len(counts), int), counts)[0]
    (level,) = treeplex.groups
    assert level[0].infosets.start == 0
    assert level[-1].infosets.stop == treeplex.n_infosets
    assert all(a.sequences.stop == b.sequences.start for a, b in pairwise(level))
    assert len(level) < 11
    few = Treeplex.build(np.zeros(4, int), np.array([2, 2, 3, 5]))[0]
    assert [group.padded for group in few.groups[0]] == [False, False, False]


@given(SEEDS, st.sampled_from([1e-9, 1e-6, 1e-3, 1e-1, 3.0]))
def test_bregman_is_the_dilated_kl_without_cancellation(seed: int, size: float) -> None:
    """Against extended precision: relative error stays small even where KL is 1e-18."""
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    log_q = np.asarray(random_policy(rng, treeplex))
    log_p = np.asarray(NORMALIZED(treeplex, log_q + size * rng.normal(size=len(log_q))))
    weights = rng.uniform(0.1, 3, size=treeplex.n_infosets)
    plan = plan_of(treeplex, np.exp(log_p))
    d = (log_p - log_q).astype(np.longdouble)
    exact = (np.repeat(weights, treeplex.n_actions) * plan[1:] * (np.expm1(-d) + d)[1:]).sum()
    spread = np.append(0.0, np.repeat(weights, treeplex.n_actions))
    measured = jax.jit(Treeplex.bregman)(treeplex, plan, log_p, log_q, spread)
    np.testing.assert_allclose(measured, float(exact), rtol=1e-9, atol=1e-30)
    np.testing.assert_allclose(measured, dilated_kl(treeplex, log_p, log_q, weights), rtol=0, atol=1e-14)


def test_a_plan_is_of_logarithms_or_of_probabilities_and_no_divergence_is_zero_for_a_mistake() -> None:
    """KL((3/4, 1/4), uniform) = 3/4 log 3 - log 2; what is no plan has none."""
    treeplex = Treeplex.simplex(2)
    log_policy, uniform = jnp.log(jnp.array([1.0, 0.75, 0.25])), jnp.asarray(treeplex.uniform())
    expected = 0.75 * np.log(3) - np.log(2)
    for plan in (treeplex.top_down(log_policy), treeplex.plan_of_probabilities(jnp.exp(log_policy))):
        np.testing.assert_allclose(treeplex.bregman(plan, log_policy, uniform), expected, rtol=0, atol=1e-15)
    assert np.isnan(treeplex.bregman(treeplex.plan_of_probabilities(log_policy), log_policy, uniform))
    assert np.isnan(treeplex.bregman(log_policy, log_policy, uniform))


@given(SEEDS)
def test_policies_and_plans_are_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    log_policy = random_policy(rng, treeplex)
    back = treeplex.log_policy_of(treeplex.top_down(log_policy), jnp.zeros(treeplex.n_sequences))
    np.testing.assert_allclose(back, log_policy, rtol=0, atol=1e-13)


def test_unreached_infosets_keep_the_fallback() -> None:
    treeplex, _ = Treeplex.build(np.array([0, 1]), np.array([2, 2]))
    fallback = treeplex.normalized(jnp.array([0.0, 0.3, 0.1, 0.9, -0.4]))
    plan = jnp.array([1.0, 0.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(treeplex.log_policy_of(plan, fallback)[3:], fallback[3:], rtol=0, atol=1e-15)


@given(SEEDS)
def test_dilated_center_maximizes_the_entropy_of_the_plan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treeplex = random_treeplex(rng)
    ones, nothing = np.ones(treeplex.n_infosets), np.zeros(treeplex.n_sequences)
    center = np.asarray(treeplex.dilated_center())
    entropy = -dilated_kl(treeplex, center, nothing, ones)
    for _ in range(10):
        assert -dilated_kl(treeplex, np.asarray(random_policy(rng, treeplex)), nothing, ones) <= entropy + 1e-12


def test_the_two_centers_differ_on_a_tree() -> None:
    """A root with two actions, one of which leads to another two: dilated plays it with 2/3, uniform with 1/2."""
    treeplex, _ = Treeplex.build(np.array([0, 1]), np.array([2, 2]))
    np.testing.assert_allclose(np.exp(treeplex.dilated_center())[1:3], [2 / 3, 1 / 3], rtol=0, atol=1e-15)
    np.testing.assert_allclose(np.exp(treeplex.uniform())[1:3], [1 / 2, 1 / 2], rtol=0, atol=1e-15)
