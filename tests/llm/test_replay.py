"""Responses of earlier rounds that are learned from again: their weights, their verdicts, and what is kept of them."""

from dataclasses import replace
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import llm_bridge as bridge
import mmd
from llm_bridge.model.ranges import SettingError
from llm_bridge.policy import scoring
from llm_bridge.run.run_state import RunState
from llm_bridge.train import replay
from llm_bridge.train.arena import Samples, Source
from llm_bridge.train.objective import PolicyGradient
from mmd.update import magnetic_objective
from tests.llm.games import CYCLE, PROMPTS, SIZES, SumJudge, policy

KEY, ETA, ALPHA = jax.random.key(3), 0.7, 0.3
RESPONSES = np.array(list(product(range(4), repeat=2)))  # to the prompt 0
PAIRS = np.array(list(product(range(16), repeat=2)))
PREFERENCE = CYCLE[np.ix_(RESPONSES.sum(axis=1) % 3, RESPONSES.sum(axis=1) % 3)]


def rows(responses: np.ndarray) -> tuple[Array, Array]:
    """The prompt and these responses."""
    tokens = np.concatenate([np.zeros((len(responses), 1), int), RESPONSES[responses]], axis=1)
    return jnp.asarray(tokens, jnp.int32), jnp.ones(tokens.shape, bool)


@jax.jit
def log_probs(weights: dict[str, Array]) -> Array:
    """Of each response."""
    return scoring.log_probs(policy().decoder, weights, *rows(np.arange(16)), 2).sum(axis=1)


class AllPairs:
    """An arena whose groups are all pairs of responses."""

    def draw(self, source: Source, n: int, key: Array) -> Samples:
        tokens, mask = rows(PAIRS.ravel())
        scores = scoring.log_probs(source.decoder, source.weights, tokens, mask, 2)
        return Samples(tokens, mask, mask & (jnp.arange(3) > 0)[None], scores, answers=2)

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Array:
        return jnp.asarray(PREFERENCE[PAIRS[:, :, None], PAIRS[:, None, :]], jnp.float32)


class Expected(bridge.MPO):
    """One step of gradient descent on the mean over all pairs of stale responses, this round's not counted."""

    def with_earlier(self, state: bridge.TrainState, samples: Samples, preference: Array) -> Any:
        state, samples, judged, metrics = super().with_earlier(state, samples, preference)
        old = np.exp(np.asarray(state.memory.log_probs[1])).reshape(-1, 2).prod(axis=1)
        drawn = np.concatenate([np.zeros(256), 3 * 256 * old, np.zeros(256)]).astype(np.float32)
        return state, samples._replace(share=samples.share * drawn[:, None]), judged, metrics


def test_the_mean_over_stale_responses_is_the_gradient_of_now() -> None:
    """Over all pairs that another policy may have drawn, as often as it draws them. A step of Adam with a huge eps and
    learning rate is the gradient itself. The exact one is of the magnetic objective over all responses."""
    numbers = {"eta": ETA, "alpha": ALPHA, "max_new_tokens": 2, "group_size": 2, "watch_start": False}
    numbers |= {"b1": 0.0, "b2": 0.0, "eps": 1e6, "learning_rate": 1e6, "schedule": "constant", "epochs": 1}
    method = Expected(replay=2, estimator=PolicyGradient(credit=True), **numbers)
    begun = method.init(policy(), KEY)
    noise = jax.random.normal(KEY, (len(begun.weights), 1))
    now = {name: w * (1 + 0.2 * float(x[0])) for (name, w), x in zip(sorted(begun.weights.items()), noise, strict=True)}
    arena, before = AllPairs(), Source(begun.frame.decoder, begun.weights)
    stale, now_log, mu = arena.draw(before, 2, KEY), log_probs(now), log_probs(begun.magnet)
    memory = replay.with_newest(replay.nothing(2, policy().mesh, (256, 2), 3), stale, arena.compare(stale))
    ratio = np.exp(np.asarray(now_log - log_probs(begun.weights)))
    assert 1.3 < ratio.max() < replay.LARGEST_WEIGHT

    def objective(weights: dict[str, Array]) -> Array:
        q = jnp.asarray(PREFERENCE, jnp.float32) @ jnp.exp(now_log) - 0.5
        return magnetic_objective(log_probs(weights), now_log, mu, q, ETA, ALPHA)

    exact = jax.grad(objective)(now)
    found = method.play(replace(begun, weights=jax.tree.map(jnp.copy, now), memory=memory), arena)[0].weights
    size = max(float(jnp.abs(part).max()) for part in exact.values())
    for name, part in exact.items():
        np.testing.assert_allclose(found[name] - now[name], part, rtol=0, atol=1e-3 * size, err_msg=name)


def run(steps: int, policy: bridge.Policy, state: Any = None, **changes: Any) -> tuple[bridge.Result, SumJudge]:
    """A run whose groups are half compared, so that some verdicts are missing."""
    judge = SumJudge()
    method = bridge.MPO(judge, **(SIZES | {"opponents": 4, "replay": 2, "decay_rounds": 4, "magnet": STILL} | changes))
    return method.fit(policy, PROMPTS, steps=steps, key=KEY, state=state), judge


STILL = mmd.Refresh(every=9)
MESH = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def test_no_pair_is_judged_twice_and_the_first_round_is_one_without_replay() -> None:
    """What stands for rounds that have not been is this round's. Later rounds learn otherwise."""
    (kept, judge), (plain, alone) = run(2, policy()), run(2, policy(), replay=0)
    assert judge.asked > 0
    assert judge.asked - alone.asked == pytest.approx(0, abs=0.1 * alone.asked)  # equal responses are not asked about
    first, second = (
        [abs(a[name] - b[name]) for name in ("loss", "grad_norm", "kl/step")]
        for a, b in zip(kept.history, plain.history, strict=True)
    )
    np.testing.assert_allclose(first, 0, rtol=0, atol=1e-5)
    assert max(second) > 1e-3
    assert kept.history[0]["replay/effective_frac"] == pytest.approx(1, abs=1e-5)
    assert 0.5 < kept.history[1]["replay/effective_frac"] < 0.999


def test_an_adapters_run_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Any) -> None:
    """What is kept of the last rounds is in the checkpoint, also where they had no answer about some pairs. A state
    before the first round has no room for it, and takes what is there."""
    adapted = bridge.add_adapter(policy(), jax.random.key(1), rank=2, alpha=4.0)
    whole = run(4, adapted)[0]
    RunState(tmp_path, {}).save(2, run(2, adapted)[0].state)
    method = bridge.MPO(SumJudge(), **SIZES, replay=2, magnet=STILL)
    saved = RunState(tmp_path, {}).restore(method.init(adapted, KEY))
    assert saved is not None
    assert bool((saved.state.memory.verdicts == replay.UNANSWERED).any())
    parts = run(4, adapted, saved.state)[0]
    assert parts.history == whole.history[2:]
    for one, other in zip(jax.tree.leaves(parts.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_several_devices_replay_as_one() -> None:
    histories = [
        [[row[name] for name in ("loss", "grad_norm", "replay/effective_frac")] for row in run(4, place)[0].history]
        for place in (policy(), policy(MESH))
    ]
    np.testing.assert_allclose(histories[0], histories[1], rtol=0, atol=2e-5)


def test_where_the_policy_stays_old_responses_weigh_as_new_ones() -> None:
    """Whatever the prompts' lengths are: rounds are padded to the longest of them."""
    method = bridge.MPO(SumJudge(), **(SIZES | {"learning_rate": 1e-12, "replay": 2}))
    state = method.init(policy(), KEY)
    for prompts in ([[0], [1, 2]], [[0, 1, 2, 3, 0, 1, 2, 3, 0], [2]], [[1], [3]]):
        state, metrics = method.round(state, method.read(policy(), prompts))
        assert metrics["replay/effective_frac"] == pytest.approx(1, abs=1e-5)
        assert metrics["sampling/sampling_logp_difference/max"] < 1e-5
    with pytest.raises(bridge.BridgeError, match="expected 2 groups of 8 responses, got 1 of 8"):
        method.round(state, method.read(policy(), [[0]]))


def test_payoffs_of_weighed_responses_sum_to_zero_and_a_pair_without_answer_counts_for_neither() -> None:
    verdicts = np.array([[[0.5, 0.9, 0.2], [0.1, 0.5, -1], [0.8, -1, 0.5]]], np.float32)
    weight = jnp.asarray([[2.0, 0.5, 1.0]], jnp.float32)
    payoff = replay.judged(jnp.asarray(verdicts)[None], weight).payoff[0]
    n_answers = 4 / 3  # of a response
    np.testing.assert_allclose(payoff, np.array([0.4 * 0.5 - 0.3, -0.4 * 2, 0.3 * 2]) / n_answers, rtol=1e-6, atol=0)
    assert float(payoff @ weight[0]) == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(SettingError, match="EGPO draws twice in a round, so expected replay to be 0, got 2"):
        bridge.methods.load("egpo")(SumJudge(), replay=2).check_settings()
    with pytest.raises(SettingError, match="expected replay to be 0 with an engine, got 2"):
        bridge.MPO(SumJudge(), replay=2, engine=lambda order: bridge.Answers([], [])).check_settings()
    began = bridge.MPO(SumJudge(), **SIZES).init(policy(), KEY)
    with pytest.raises(bridge.BridgeError, match="replay=2 needs draws, and a state that began with replay=2"):
        run(1, policy(), began)
