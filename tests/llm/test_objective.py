"""The forms of the objective agree with one another and with the equation, in float64, by enumeration.

Policies are tables of logits, one line a prefix, so that every expectation is a finite sum.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llm_bridge.policy.scoring import Vocabulary
from llm_bridge.train.learning import sums
from llm_bridge.train.objective import Enumerated, Judged, Numbers, PolicyGradient, Regression, Seen, payoffs
from mmd.update import magnetic_step

N, V = 2, 3
ETA, ALPHA = 0.7, 0.3
NUMBERS = Numbers(jnp.asarray(ETA), jnp.asarray(ALPHA))


class Tree:
    """All responses of `length` tokens to two prompts, and policies given by logits [N, prefixes, V]."""

    def __init__(self, length: int):
        self.length = length
        responses = np.array(list(product(range(V), repeat=length)))
        self.n_prefixes = (V**length - 1) // (V - 1)
        before = [np.zeros(len(responses), int)]
        for t in range(length - 1):
            before.append(before[-1] * V + 1 + responses[:, t])
        self.prompt = np.repeat(np.arange(N), len(responses))
        self.prefix = np.tile(np.stack(before, axis=1), (N, 1))
        self.tokens = jnp.asarray(np.insert(np.tile(responses, (N, 1)), 0, 0, axis=1), jnp.int32)
        self.response = jnp.asarray(np.arange(length + 1)[None] > 0) & jnp.ones(self.tokens.shape, bool)

    def logs(self, logits: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(logits)[self.prompt[:, None], self.prefix]

    def log_probs(self, logits: jax.Array) -> jax.Array:
        """Of the tokens, [B, T]."""
        taken = jnp.take_along_axis(self.logs(logits), self.tokens[:, 1:, None], axis=2)[:, :, 0]
        return jnp.pad(taken, ((0, 0), (1, 0)))

    def of_responses(self, logits: jax.Array) -> jax.Array:
        return self.log_probs(logits).sum(axis=1).reshape(N, -1)

    def share(self, before: jax.Array) -> jax.Array:
        """How likely the sampling policy makes each response."""
        return jnp.exp(self.of_responses(before))

    def judged(self, before: jax.Array, preference: jax.Array) -> Judged:
        return Judged(payoffs(preference, self.share(before)), preference)

    def seen(self, logits: jax.Array, before: jax.Array, magnet: jax.Array) -> Seen:
        """All responses, weighed by how likely the sampling policy makes them; as `Learner.loss` does for networks."""
        logs = self.logs(logits)
        whole = Vocabulary()
        found = whole.entropy(logs), *(whole.kl_divergence(logs, self.logs(other)) for other in (magnet, before))
        spread, to_magnet, to_policy = (jnp.pad(each, ((0, 0), (1, 0))) for each in found)
        ours, by_policy, by_magnet = (self.log_probs(each) for each in (logits, before, magnet))
        weight = self.share(before) / N
        return Seen(self.response, weight, ours, by_policy, by_magnet, spread, to_magnet, to_policy, sampled=False)


@pytest.fixture(params=[1, 2, 3])
def tree(request: pytest.FixtureRequest) -> Tree:
    return Tree(request.param)


def test_the_logged_length_of_a_step_is_the_divergence_of_the_new_policy_from_the_one_that_has_drawn(
    tree: Tree, rng: np.random.Generator
) -> None:
    """`kl/step` is KL(pi_k, pi) of whole responses; the other way round, or with the ratio turned over, it is not."""
    now, before, _ = drawn(tree, rng)
    found = sums(tree.seen(now, before, before), tree.log_probs(before), None)["kl/step"]
    ours, by_policy = (np.asarray(tree.of_responses(each)) for each in (now, before))
    exact, other = (np.mean(np.sum(np.exp(p) * (p - q), axis=1)) for p, q in ((by_policy, ours), (ours, by_policy)))
    np.testing.assert_allclose(found, exact, rtol=1e-9)
    assert abs(other / exact - 1) > 0.01


def drawn(tree: Tree, rng: np.random.Generator) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Two policies and preferences without a scalar reward behind them."""
    two = (jnp.asarray(rng.standard_normal((N, tree.n_prefixes, V))) for _ in range(2))
    above = np.triu(rng.standard_normal((N, V**tree.length, V**tree.length)), 1)
    return *two, jnp.asarray(1 / (1 + np.exp(np.swapaxes(above, 1, 2) - above)))


def gradient(tree: Tree, objective, at: jax.Array, before: jax.Array, others: tuple) -> np.ndarray:
    magnet, preference = others
    judged = tree.judged(before, preference)

    def loss(logits: jax.Array) -> jax.Array:
        return objective(tree.seen(logits, before, magnet), judged, NUMBERS)

    return np.asarray(jax.grad(loss)(at))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    "objective", [PolicyGradient(credit=True), PolicyGradient(credit=True, proximal=True), Regression()]
)
def test_at_the_sampling_policy_every_form_has_the_gradient_of_the_magnetic_objective(
    tree: Tree, objective, rng: np.random.Generator
) -> None:
    before, *others = drawn(tree, rng)
    expected = gradient(tree, Enumerated(), before, before, tuple(others))
    assert relative(gradient(tree, objective, before, before, tuple(others)), expected) < 1e-10


def test_without_credit_the_gradient_is_another_one_unless_policy_and_magnet_agree(rng: np.random.Generator) -> None:
    tree = Tree(3)
    before, magnet, preference = drawn(tree, rng)
    for mu, differs in ((magnet, True), (before, False)):
        expected = gradient(tree, Enumerated(), before, before, (mu, preference))
        found = gradient(tree, PolicyGradient(), before, before, (mu, preference))
        assert (relative(found, expected) > 0.1) == differs
        assert differs or relative(found, expected) < 1e-10


def test_a_small_gradient_step_is_the_magnetic_step_to_first_order(rng: np.random.Generator) -> None:
    """For a tabular softmax over responses, -gradient / pi is d log pi+ / d eta at eta = 0."""
    tree = Tree(1)
    before, magnet, preference = drawn(tree, rng)
    log_policy, log_magnet = tree.of_responses(before), tree.of_responses(magnet)
    payoff = payoffs(preference, jnp.exp(log_policy))

    def step(eta: jax.Array) -> jax.Array:
        return magnetic_step(log_policy, log_magnet, payoff, eta, ALPHA)[0]

    _, expected = jax.jvp(step, (jnp.zeros(()),), (jnp.ones(()),))
    for objective in (PolicyGradient(), Regression(), Enumerated()):
        found = -N * gradient(tree, objective, before, before, (magnet, preference))[:, 0] / np.exp(log_policy)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_magnetic_step_is_where_each_form_stops(rng: np.random.Generator) -> None:
    """Far from the sampling policy too; over responses as actions."""
    tree = Tree(1)
    before, magnet, preference = drawn(tree, rng)
    log_policy, log_magnet = tree.of_responses(before), tree.of_responses(magnet)
    payoff = payoffs(preference, jnp.exp(log_policy))
    best = magnetic_step(log_policy, log_magnet, payoff, ETA, ALPHA)[0][:, None]
    assert float(jnp.abs(best[:, 0] - log_policy).max()) > 0.1
    for objective in (PolicyGradient(proximal=True), Regression(), Enumerated()):
        stopped = gradient(tree, objective, best, before, (magnet, preference))
        np.testing.assert_allclose(stopped, 0, rtol=0, atol=1e-14)


def test_the_divergences_of_tokens_add_up_to_that_of_responses(tree: Tree, rng: np.random.Generator) -> None:
    """E_{y ~ pi} sum_t KL(pi(. | y_<t), mu(. | y_<t)) = KL(pi, mu) over whole responses."""
    before, magnet, _ = drawn(tree, rng)
    seen = tree.seen(before, before, magnet)
    to_magnet = seen.to_magnet
    assert to_magnet is not None
    log_policy, log_magnet = tree.of_responses(before), tree.of_responses(magnet)
    expected = jnp.sum(jnp.exp(log_policy) * (log_policy - log_magnet)) / N
    np.testing.assert_allclose(jnp.sum(seen.weight * seen.by_response(to_magnet)), expected, rtol=1e-12)


def test_payoffs_are_leave_one_out_win_rates_that_sum_to_zero(rng: np.random.Generator) -> None:
    above = np.triu(rng.uniform(-0.5, 0.5, (N, 6, 6)), 1)
    preference = 0.5 + above - np.swapaxes(above, 1, 2)
    expected = (preference.sum(axis=2) - 0.5) / 5 - 0.5
    np.testing.assert_allclose(payoffs(jnp.asarray(preference)), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(expected.sum(axis=1), 0, rtol=0, atol=1e-14)
    missing = np.triu(rng.uniform(size=(N, 6, 6)) < 0.4, 1)
    preference[missing | np.swapaxes(missing, 1, 2)] = np.nan
    found = payoffs(jnp.asarray(preference))
    np.testing.assert_allclose(found.sum(axis=1), 0, rtol=0, atol=1e-14)
    margins = np.nan_to_num(preference - 0.5).sum(axis=2)
    answers = (~np.isnan(preference)).sum(axis=(1, 2)) - 6
    np.testing.assert_allclose(found, 6 * margins / answers[:, None], rtol=0, atol=1e-14)


def test_a_prompt_without_any_answer_has_payoffs_zero() -> None:
    preference = jnp.full((1, 4, 4), jnp.nan).at[:, jnp.arange(4), jnp.arange(4)].set(0.5)
    np.testing.assert_array_equal(payoffs(preference), np.zeros((1, 4)))


def test_payoffs_of_draws_are_right_on_average(rng: np.random.Generator) -> None:
    """Over all groups of three: the mean of the first one's payoff is its win rate against the policy."""
    tree = Tree(1)
    before, _, preference = drawn(tree, rng)
    probability = np.exp(tree.of_responses(before))[0]
    table = np.asarray(preference)[0]
    for first in range(V):
        mean = 0.0
        for j, k in product(range(V), repeat=2):
            group = np.array([first, j, k])
            found = payoffs(jnp.asarray(table[np.ix_(group, group)])[None])[0, 0]
            mean += probability[j] * probability[k] * float(found)
        np.testing.assert_allclose(mean, table[first] @ probability - 0.5, rtol=0, atol=1e-14)
