"""Each baseline is the method of its paper: its gradient, its fixed point, its opponents.

Gradients are compared on enumerated responses in float64, with policies that are tables of logits (`test_objective`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import llm_bridge as bridge
from llm_bridge.policy import generate
from llm_bridge.policy.mixture import Mixture
from llm_bridge.policy.sampling import Settings
from llm_bridge.train import loop
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.baselines.egpo import EGPO
from llm_bridge.train.baselines.inpo import INPO
from llm_bridge.train.baselines.iterative_dpo import IterativeDPO
from llm_bridge.train.baselines.nash_md import NashMD
from llm_bridge.train.baselines.online_ipo import OnlineIPO
from llm_bridge.train.baselines.self_play import SelfPlay
from llm_bridge.train.baselines.sft import SFT
from llm_bridge.train.baselines.sppo import SPPO
from llm_bridge.train.objective import Enumerated, Judged, payoffs
from mmd.update import magnetic_step
from tests.llm.games import SIZES, SumJudge, policy
from tests.llm.test_objective import ALPHA, ETA, Tree, V, drawn, gradient

KEY = jax.random.key(3)


def objective(method: type, **changes: Any):
    return method(SumJudge(), **(SIZES | changes)).objective()


@pytest.mark.parametrize(
    ("method", "factor", "centred"),
    [(SPPO, 2 * ETA, True), (IterativeDPO, 2 / ETA, False), (OnlineIPO, 4 / ALPHA, False), (INPO, 1.0, True)],
)
def test_at_the_sampling_policy_the_loss_is_a_multiple_of_a_magnetic_objective(
    method: type, factor: float, centred: bool, rng: np.random.Generator
) -> None:
    """SPPO and DPO of that without a magnet; DPO and IPO leave out a response's pair with itself, which rescales.

    For online IPO this is Proposition 4.2 of its paper.
    """
    tree = Tree(2)
    before, magnet, preference = drawn(tree, rng)
    if not method.has_magnet:
        magnet = before
    found = gradient(tree, objective(method), before, before, (magnet, preference))
    expected = factor * gradient(tree, Enumerated(), before, before, (magnet, preference))
    if not centred:
        pairs = 1 - jnp.sum(jnp.exp(2 * tree.of_responses(before)), axis=1)
        expected = expected / np.asarray(pairs)[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "rests"), [(INPO, True), (SelfPlay, True), (OnlineIPO, True), (EGPO, True), (SPPO, False)]
)
def test_the_regularized_equilibrium_is_where_methods_with_a_fixed_reference_rest(
    method: type, rests: bool, rng: np.random.Generator
) -> None:
    """pi ~ ref exp(P(y > pi) / alpha), found by magnetic steps with a fixed magnet."""
    tree = Tree(1)
    before, magnet, preference = drawn(tree, rng)
    log_magnet = tree.of_responses(magnet)
    log_policy = tree.of_responses(before)
    for _ in range(400):
        payoff = jnp.einsum("nij,nj->ni", preference, jnp.exp(log_policy)) - 0.5
        log_policy = magnetic_step(log_policy, log_magnet, payoff, 0.5, ALPHA)[0]
    found = gradient(tree, objective(method), log_policy[:, None], log_policy[:, None], (magnet, preference))
    assert (np.abs(found).max() < 1e-12) == rests


def test_a_mixture_draws_each_token_from_the_geometric_mixture_of_two_policies() -> None:
    """Log-probabilities of generated tokens, with two caches, are those of forward passes without any."""
    decoder = policy().decoder
    one = policy().arrays()
    other = {name: jnp.flip(array, axis=-1) for name, array in one.items()}
    share, n = 0.3, 6
    mixture, prompts = Mixture(decoder, share), jnp.asarray(np.arange(n)[:, None] % V, jnp.int32)
    settings: Any = (np.asarray(jax.random.key_data(KEY)), np.int32(3), np.float32(1), np.int32(4), np.float32(1))
    shape = generate.Shape(3, False, False, 0, str(jax.random.key_impl(KEY)))
    padding = jnp.zeros(n, jnp.int32)
    stop = np.zeros((0, 1), np.int32)
    found = generate.run(mixture, shape, (one, other), (prompts, padding), Settings(*settings, stop))
    tokens = jnp.concatenate([prompts, found.tokens], axis=1)
    logs = []
    for weights in (one, other):
        hidden = decoder.hidden(weights, tokens, jnp.ones(tokens.shape, bool))
        logs.append(np.asarray(jax.nn.log_softmax(decoder.logits(weights, hidden)), np.float64)[:, :-1])
    assert np.abs(logs[0] - logs[1]).max() > 0.1
    mixed = (1 - share) * logs[0] + share * logs[1]
    mixed -= np.log(np.exp(mixed).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(mixed, np.asarray(found.tokens)[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(found.log_probs, expected, rtol=0, atol=1e-5)


class Recorder:
    """An arena of two prompts with made-up responses; it notes what was asked."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.compared: list[tuple[Any, Any]] = []

    def draw(self, source: Source, n: int, key: jax.Array) -> Samples:
        # What is drawn from is copied: learning uses its buffers up.
        self.sources.append(Source(source.decoder, jax.tree.map(np.array, source.weights)))
        tokens = jax.random.randint(key, (2 * n, 4), 0, 4, jnp.int32)
        real = jnp.ones(tokens.shape, bool)
        return Samples(tokens, real, real & (jnp.arange(4) > 0)[None, :], jnp.zeros(tokens.shape, jnp.float32))

    def compare(self, ours: Samples, theirs: Samples | None = None) -> jax.Array:
        self.compared.append((ours, theirs))
        n = len(ours.tokens) // 2
        strength = jnp.sum((ours.tokens == 1).astype(jnp.float32), axis=1).reshape(2, n)
        other = strength
        if theirs is not None:
            other = 1 - jnp.sum((theirs.tokens == 2).astype(jnp.float32), axis=1).reshape(2, n)
        return jax.nn.sigmoid(strength[:, :, None] - other[:, None, :])


def test_the_second_step_of_egpo_begins_where_the_first_did_and_meets_where_it_led() -> None:
    one = EGPO(SumJudge(), **SIZES)
    state, arena = one.init(policy(), KEY), Recorder()
    start = {name: np.array(w) for name, w in state.weights.items()}
    state, _ = one.play(state, arena)
    (among, nobody), (ours, theirs) = arena.compared
    assert nobody is None
    assert ours is among  # the same responses learn in both steps
    assert theirs is not None
    np.testing.assert_array_equal(arena.sources[0].weights["head"], start["head"])
    looked = arena.sources[1].weights["head"]
    assert np.abs(looked - start["head"]).max() > 1e-4
    again = EGPO(SumJudge(), **SIZES)
    fresh = again.init(policy(), KEY)
    preference = Recorder().compare(ours, theirs)
    expected, _ = again.learn(fresh, ours, Judged(payoffs(preference, own=False), preference))
    np.testing.assert_array_equal(state.weights["head"], expected.weights["head"])


def test_nash_md_trains_on_its_own_responses_against_those_of_the_mixture() -> None:
    one = NashMD(SumJudge(), **SIZES, share=0.25)
    state, arena = one.init(policy(), KEY), Recorder()
    one.play(state, arena)
    own, mixed = arena.sources
    assert not isinstance(own.decoder, Mixture)
    assert isinstance(mixed.decoder, Mixture)
    assert mixed.decoder.share == 0.25
    assert len(mixed.weights) == 2
    assert arena.compared[0][1] is not None


def test_supervised_loss_is_the_mean_over_answer_tokens_and_learns_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LITTLE_ENTROPY", 10.0)  # learning by heart is no collapse, so there is no warning
    rows = [([0], [1, 2, 3]), ([1, 2], [3])]
    one = SFT(prompts_per_round=2, learning_rate=3e-2, eps=1e-6, watch_start=False)
    result = one.fit(policy(), rows, steps=12, key=KEY)
    tokens = np.array([[0, 1, 2, 3], [1, 2, 3, 0]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    scores = np.asarray(policy().log_probs(tokens, mask))
    expected = -(scores[0, 1:].sum() + scores[1, 2]) / 4
    np.testing.assert_allclose(result.history[0]["loss"], expected, rtol=0, atol=1e-5)
    assert result.history[-1]["loss"] < 0.3 * expected
    for bad in ([], [([0], [])], [[0, 1]]):
        with pytest.raises(bridge.BridgeError, match="expected a"):
            one.fit(policy(), bad, steps=1, key=KEY)
