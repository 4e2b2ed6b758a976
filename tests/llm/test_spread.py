"""Draws of a group that are spread evenly: each one the policy's own, together nearer to it, and right in pairs."""

from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from scipy.stats import chi2

import llm_bridge as bridge
from llm_bridge.model.ranges import SettingError
from llm_bridge.policy import scoring, spread
from llm_bridge.run.run_state import RunState
from llm_bridge.train.arena import Source
from llm_bridge.train.objective import payoffs
from llm_bridge.train.rollout import Grouping, Question, Rollout
from tests.llm.games import CYCLE, PROMPTS, SIZES, SumJudge, policy

KEY, GROUP, N = jax.random.key(7), 16, 2000
RESPONSES = np.array(list(product(range(4), repeat=2)))  # to the prompt 0
CLASSES = RESPONSES.sum(axis=1) % 3
MARGIN = CYCLE[np.ix_(CLASSES, CLASSES)] - 0.5
MESH = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)


@cache
def probability() -> np.ndarray:
    """Of every response."""
    tokens = jnp.asarray(np.concatenate([np.zeros((16, 1), int), RESPONSES], axis=1), jnp.int32)
    log_probs = scoring.log_probs(policy().decoder, policy().arrays(), tokens, jnp.ones(tokens.shape, bool), 2)
    return np.exp(np.asarray(log_probs, np.float64).sum(axis=1))


def arena(spread: bool, n: int = N, opponents: int | None = None) -> Rollout:
    """So many groups of answers of two tokens, all to one prompt."""
    return Rollout([Question((0,), (0,))] * n, SumJudge(), policy().origin, 2, Grouping(opponents, spread))


@cache
def drawn(spread: bool) -> np.ndarray:
    """Number of each response, of a group a line."""
    samples = arena(spread).draw(Source(policy().decoder, policy().arrays()), GROUP, KEY)
    tokens = np.asarray(samples.tokens)[:, -2:]
    return (tokens @ [4, 1]).reshape(N, GROUP)


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    """Of Pearson's test."""
    return float(chi2.sf(np.sum((counts - expected) ** 2 / expected), counts.size - 1))


def test_each_answer_is_a_draw_and_independent_of_one_of_the_other_half() -> None:
    """Chi-square over all answers at each row of a group, and over all pairs of two rows. Rows of one half are not
    independent, or nothing would be gained."""
    found, of_pair = drawn(True), np.outer(probability(), probability()).ravel()
    for row in range(GROUP):
        assert p_value(np.bincount(found[:, row], minlength=16), N * probability()) > 1e-4, row
    for row, independent in ((1, True), (3, True), (2, False)):
        pairs = np.bincount(16 * found[:, 0] + found[:, row], minlength=256)
        assert (p_value(pairs, N * of_pair) > 1e-4) == independent, row


def test_frequencies_of_a_half_miss_by_less_than_one_answer() -> None:
    """Answers that follow each other in the order of their tokens are one part of [0, 1): with equal distances of 1 / m
    it holds its share of m codes, rounded up or down."""
    up_to = np.cumsum(probability())
    for half in (drawn(True)[:, ::2], drawn(True)[:, 1::2]):
        counts = (half[:, :, None] <= np.arange(16)).sum(axis=1)
        assert np.abs(counts - half.shape[1] * up_to).max() < 1 + 1e-4


def gradients(responses: np.ndarray, preference: np.ndarray) -> np.ndarray:
    """The estimate of each group for the logits of the responses: the mean of payoff times grad log pi."""
    payoff = np.asarray(payoffs(jnp.asarray(preference, jnp.float32)), np.float64)
    score = np.eye(16)[responses] - probability()
    return np.mean(payoff[:, :, None] * score, axis=1)


def preferences(responses: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Within each group, NaN where nobody is asked."""
    found = MARGIN[responses[:, :, None], responses[:, None, :]] + 0.5
    return np.where(asked, found, np.nan)


def asked(spread: bool) -> np.ndarray:
    """Of which pairs an arena asks, as it says itself."""
    samples = arena(spread, 1).draw(Source(policy().decoder, policy().arrays()), GROUP, KEY)
    return ~np.isnan(np.asarray(arena(spread, 1).compare(samples)[0])) & ~np.eye(GROUP, dtype=bool)


def away(estimates: np.ndarray) -> float:
    """How many standard errors the mean is from the gradient of the exact win rate against the policy, at most."""
    exact = probability() * (MARGIN @ probability())
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    return float(np.abs((estimates.mean(axis=0) - exact) / error).max())


def test_the_gradient_has_its_mean_and_less_variance() -> None:
    """Compared with the other half. Comparing within a half has another mean, for its answers avoid each other."""
    assert asked(True).sum() == GROUP**2 / 2
    assert asked(False).sum() == GROUP * (GROUP - 1)
    plain = gradients(drawn(False), preferences(drawn(False), asked(False)))
    even = gradients(drawn(True), preferences(drawn(True), asked(True)))
    assert away(plain) < 4
    assert away(even) < 4
    assert even.var(axis=0).sum() < 0.5 * plain.var(axis=0).sum()
    own_half = ~asked(True) & ~np.eye(GROUP, dtype=bool)
    assert away(gradients(drawn(True), preferences(drawn(True), own_half))) > 10


def test_opponents_are_of_the_other_half() -> None:
    samples = arena(True, 1).draw(Source(policy().decoder, policy().arrays()), GROUP, KEY)
    found = np.asarray(arena(True, 1, opponents=2).compare(samples)[0])
    there = ~np.isnan(found)
    assert (there.sum(axis=1) == 2).all()
    assert not there[::2, ::2].any()
    assert not there[1::2, 1::2].any()


@pytest.mark.parametrize("large", [0.0, 30.0])
def test_a_token_has_its_probability_whatever_the_others_are_and_one_of_none_is_never_taken(large: float) -> None:
    """In a vocabulary of several blocks, some of whose tokens are excluded."""
    logits = np.random.default_rng(0).normal(size=37) - large * (np.arange(37) == 5)
    logits[[0, 9, 10, 36]] = -np.inf
    expected = np.exp(logits) / np.exp(logits).sum()
    code = np.linspace(0, 1, 2**16, endpoint=False, dtype=np.float32)
    keys = jax.random.split(KEY, len(code))
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (len(code), 37))
    taken, rest = jax.jit(spread.taken)(rows, jnp.asarray(code), keys)
    shares = np.bincount(np.asarray(taken), minlength=37) / len(code)
    np.testing.assert_allclose(shares, expected, rtol=0, atol=2 / len(code))
    assert not shares[expected == 0].any()
    following = np.asarray(rest)[np.asarray(taken) == shares.argmax()]
    np.testing.assert_allclose(np.quantile(following, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], rtol=0, atol=1e-2)
    assert 0 <= rest.min() <= rest.max() < 1


def test_a_code_that_is_used_up_is_followed_by_fresh_digits() -> None:
    """After more tokens than a code has digits for, answers still have their probabilities: all rows have one code."""
    n, logits = 4096, jnp.log(jnp.asarray([0.2, 0.5, 0.3], jnp.float32))
    code = jnp.full(n, 0.4, jnp.float32)
    step = jax.jit(partial(spread.taken, jnp.broadcast_to(logits, (n, 3))))
    for number in range(40):
        token, code = step(code, jax.random.split(jax.random.fold_in(KEY, number), n))
    assert p_value(np.bincount(np.asarray(token), minlength=3), n * np.array([0.2, 0.5, 0.3])) > 1e-4


def run(steps: int, place: bridge.Policy, state: Any = None, **changes: Any) -> tuple[bridge.Result, SumJudge]:
    """A run with spread draws."""
    judge = SumJudge()
    method = bridge.MPO(judge, **(SIZES | {"spread_draws": True, "decay_rounds": 4} | changes))
    return method.fit(place, PROMPTS, steps=steps, key=KEY, state=state), judge


@pytest.mark.parametrize("replay", [0, 2])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit_and_asks_no_more(replay: int, tmp_path: Path) -> None:
    whole, judge = run(4, policy(), replay=replay)
    plain = run(4, policy(), replay=replay, spread_draws=False)[1]
    assert 0 < judge.asked < 0.75 * plain.asked  # half of the pairs, of which fewer are equal
    RunState(tmp_path, {}).save(2, run(2, policy(), replay=replay)[0].state)
    method = bridge.MPO(SumJudge(), **SIZES, spread_draws=True, replay=replay)
    saved = RunState(tmp_path, {}).restore(method.init(policy(), KEY))
    assert saved is not None
    assert run(4, policy(), saved.state, replay=replay)[0].history == whole.history[2:]


def test_several_devices_draw_and_learn_as_one() -> None:
    found: list[Array] = []
    for place in (policy(), policy(MESH)):
        samples = arena(True, 8).draw(Source(place.decoder, place.arrays()), GROUP, KEY)
        found.append(np.asarray(samples.tokens))
    np.testing.assert_array_equal(*found)
    histories = [
        [[row[name] for name in ("loss", "grad_norm")] for row in run(3, place)[0].history]
        for place in (policy(), policy(MESH))
    ]
    np.testing.assert_allclose(histories[0], histories[1], rtol=0, atol=2e-5)


def test_what_needs_independent_draws_is_refused() -> None:
    def message(name: str, **changes: Any) -> str:
        with pytest.raises(SettingError) as refused:
            bridge.methods.load(name)(SumJudge(), spread_draws=True, **changes).check_settings()
        return str(refused.value)

    pairs = "Regression() learns from all pairs of a group as independent draws"
    assert message("inpo") == f"{pairs}, so expected spread_draws to be False"
    assert message("egpo") == "EGPO draws twice in a round, so expected spread_draws to be False"
    engine = message("mpo", engine=lambda order: bridge.Answers([], []))
    assert engine == "an engine draws each answer for itself, so expected spread_draws to be False"
    assert message("mpo", group_size=5) == "expected group_size to be even with spread_draws, got 5"


@pytest.mark.parametrize("replay", [0, 1])
def test_a_play_of_ones_own_that_draws_once_trains_as_the_method_does(replay: int) -> None:
    """One that only looks on changes nothing; one that does not say how often it draws is refused."""

    class Silent(bridge.MPO):
        def play(self, state: Any, arena: Any) -> Any:
            return bridge.MPO.play(self, state, arena)

    class Watching(Silent):
        draws_once = True

    numbers: dict[str, Any] = {**SIZES, "spread_draws": True, "replay": replay}
    with pytest.raises(SettingError, match="Silent draws twice in a round"):
        Silent(SumJudge(), **numbers).check_settings()
    seen = [kind(SumJudge(), **numbers).fit(policy(), PROMPTS, steps=3, key=KEY) for kind in (bridge.MPO, Watching)]
    assert seen[0].history == seen[1].history
