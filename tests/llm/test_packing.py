"""Rows that are sorted by length and learned from in tiles: every row once, few columns wasted, the same training."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

import llm_bridge as bridge
import mmd
from benchmarks.report import RESULTS
from llm_bridge.model import sharding
from llm_bridge.plan import counts
from llm_bridge.run.phases import COMPILED
from llm_bridge.train import packing, rollout
from llm_bridge.train.arena import Samples
from llm_bridge.train.baselines.sppo import SPPO
from llm_bridge.train.objective import Judged
from tests.llm.games import CONFIG, SumJudge
from tests.llm.test_meshes import mesh_of

N, G, BEFORE, AFTER, ROUNDS, EPOCHS, V, C = 4, 4, 6, 16, 5, 4, 64, 12
SHAPES = ((3, 16), (5, 8))
TINY = CONFIG | {"vocab_size": V, "num_hidden_layers": 2, "hidden_size": 32, "num_key_value_heads": 2, "head_dim": C}
REMADE = bridge.Compute(remat="none")
NAMES = ("loss", "grad_norm", "kl/magnet", "kl/initial", "kl/step", "entropy")


def long_tailed(rng: np.random.Generator, n: int, longest: int) -> np.ndarray:
    """Lengths of point 8: median 200 of at most 2048, sigma 0.8."""
    lengths = rng.lognormal(np.log(200 * longest / 2048), 0.8, n)
    return np.clip(lengths.astype(int), 1, longest)


# ------------------------------------------------------------------------------------------------------ the shapes


def test_every_row_is_in_one_tile_that_is_wide_enough_and_no_tile_can_be_spared() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        n_rows, longest = int(rng.integers(8, 300)), int(rng.choice([256, 512, 1536, 2048]))
        if not (shapes := packing.shapes_of(n_rows, longest, bool(rng.integers(2)))):
            continue
        lengths = -np.sort(-long_tailed(rng, n_rows, longest))
        tiles = packing.cut(lengths, shapes)
        ends = [first for first, _ in tiles[1:]] + [n_rows]
        assert tiles[0][0] == 0
        for (first, kind), end in zip(tiles, ends, strict=True):
            assert 0 < end - first <= shapes[kind][0]
            assert lengths[first] <= shapes[kind][1]
        fewest = [0] + [n_rows] * n_rows  # tiles that the first rows need at least
        for i in range(n_rows):
            for rows, width in shapes:
                if width >= lengths[i]:
                    end = min(n_rows, i + rows)
                    fewest[end] = min(fewest[end], fewest[i] + 1)
        assert len(tiles) == min(fewest[n_rows:])


def test_most_columns_of_long_tailed_answers_are_real() -> None:
    """Point 8 of notes/accelerators.md: 15 % of them were."""
    rng, real, computed = np.random.default_rng(1), 0, 0
    shapes = packing.shapes_of(256, 2048, False)
    for _ in range(20):
        lengths = -np.sort(-long_tailed(rng, 256, 2048))
        real += lengths.sum()
        computed += sum(np.prod(shapes[kind]) for _, kind in packing.cut(lengths, shapes))
    assert real / computed >= 0.6


@pytest.mark.parametrize(("n_shares", "gathers"), [(4, False), (4, True), (8, False), (8, True)])
def test_groups_are_exchanged_until_shares_are_alike(
    n_shares: int, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group once, never more columns than dealt to and fro, and over some rounds fewer; the same every time."""
    rng, computed = np.random.default_rng(3), {0: 0, packing.EXCHANGES: 0}
    shapes = packing.shapes_of(256 // n_shares, 2048, gathers)
    for _ in range(5):
        lengths, before = long_tailed(rng, 256, 2048).reshape(32, 8), 0
        for most in computed:
            monkeypatch.setattr(packing, "EXCHANGES", most)
            order = packing.dealt(lengths, n_shares, shapes)
            assert sorted(order) == list(range(32))
            assert (order == packing.dealt(lengths, n_shares, shapes)).all()
            longest = (-np.sort(-lengths[order].reshape(n_shares, -1), axis=1)).max(axis=0)
            found = sum(int(np.prod(shapes[kind])) for _, kind in packing.cut(longest, shapes))
            assert not before or found <= before
            before, computed[most] = found, computed[most] + found
    dealt, exchanged = computed.values()
    assert exchanged < (1.0 if gathers else 0.98) * dealt


def test_at_most_a_few_exchanges_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two groups and two shares there is one exchange, which changes nothing; without any the order is as dealt."""
    lengths = np.array([[5, 1], [9, 2], [7, 7], [1, 1]])
    monkeypatch.setattr(packing, "EXCHANGES", 0)
    assert list(packing.dealt(lengths, 2, ((1, 16), (2, 8)))) == [1, 3, 2, 0]
    assert list(packing.dealt(lengths[:3], 2, ((1, 16),))) == [0, 1, 2]
    assert list(packing.dealt(lengths, 1, ((1, 16),))) == [0, 1, 2, 3]


def test_the_bar_of_real_columns_is_met_on_four_of_five_kinds_of_shares() -> None:
    """As the results have it: at least 60 % of the answers' columns; eight shares that gather weights stay below."""
    stored = json.loads((RESULTS / "columns.json").read_text("utf-8"))["results"]["sorted"]
    real = {(found["axis"], found["shares"]): found["real of answers"] for found in stored}
    assert {key for key, share in real.items() if share < 0.6} == {("fsdp", 8)}
    assert real["fsdp", 8] > 0.47


def test_a_run_has_few_shapes_whatever_its_lengths() -> None:
    """Of prompts, where each length pays, and of answers that are not sorted."""
    rng = np.random.default_rng(2)
    longest = rng.lognormal(np.log(150), 0.6, (100, 16)).astype(int).max(axis=1) + 1
    widths = rollout.widths(int(longest.max()), longest.tolist(), rollout.PROGRAMS)
    assert 1 < len(widths) <= rollout.PROGRAMS
    columns = [next(width for width in widths if width >= n) for n in longest]
    assert sum(columns) < 0.9 * len(longest) * widths[-1]
    assert rollout.widths(7, [7, 6, 7], rollout.PROGRAMS) == (8,)
    assert {rollout.shortened(n, 2048) for n in range(1, 2049)} == {2048, 1024, 512, 256}


# ---------------------------------------------------------------------------------------------------- the same training


def rounds() -> list[tuple[Samples, Judged]]:
    rng, found = np.random.default_rng(3), []
    for _ in range(ROUNDS):
        response = np.arange(AFTER)[None, :] < long_tailed(rng, N * G, AFTER)[:, None]
        tokens = rng.integers(3, V, (N * G, BEFORE + AFTER)).astype(np.int32)
        tokens[:, :BEFORE] = np.repeat(tokens[::G, :BEFORE], G, axis=0)
        prompt = np.repeat(np.arange(BEFORE)[None, :] >= rng.integers(0, BEFORE, N)[:, None], G, axis=0)
        marked = np.concatenate([np.zeros_like(prompt), response], axis=1)
        mask = np.concatenate([prompt, response], axis=1)
        payoff = rng.normal(size=(N, G)).astype(np.float32)
        columns: Any = (tokens, mask, marked, np.zeros(tokens.shape, np.float32))
        verdicts: Any = (payoff, np.zeros((N, G, G), np.float32))
        weight: Any = rng.uniform(0.2, 2, (N, G)).astype(np.float32) / G
        found.append((Samples(*columns, share=weight), Judged(*verdicts)))
    return found


def method_of(kind: Callable[..., Any], parts: int) -> Any:
    more = {"magnet": mmd.Refresh(every=2)} if kind is bridge.MPO else {}
    return kind(
        eta=0.7, alpha=0.2, group_size=G, prompts_per_round=N, max_new_tokens=AFTER, epochs=EPOCHS,
        learning_rate=1e-3, prompts_at_a_time=N // parts, **more,
    )  # fmt: skip


def trained(axes: dict[str, int], shapes: Any) -> Any:
    """Metrics of twenty steps on responses of unequal weights, the weights after them, and the text of the program."""
    mesh = mesh_of(axes) if axes else None
    policy = bridge.init(TINY, jax.random.key(1), mesh=mesh, compute=REMADE)
    method, found, text = replace(method_of(bridge.MPO, 2), replay=1), [], ""
    state = method.init(policy, jax.random.key(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "shapes_of", lambda *_: shapes)
        for samples, judged in rounds():
            samples = Samples(*(jax.device_put(part) for part in samples[:5]), answers=AFTER)
            if mesh is not None and not text:
                learner, rows = method._rows(state, samples, (N, G))
                carried, others = (
                    (state.weights, state.optimizer, state.counters),
                    (state.base, state.magnet, state.initial),
                )
                program: Any = sharding.program(type(learner).steps, learner, carried)
                lowered = program.lower(carried, rows, judged, method.numbers(state), method._rate(state), others)
                text = str(lowered.compile().as_text())
            state, metrics = method.learn(state, samples, judged)
            state = method.settle(state)
            found.append([float(metrics.get(name, 0.0)) for name in NAMES])
    return np.array(found), {name: np.asarray(array) for name, array in state.weights.items()}, text


def test_twenty_steps_of_sorted_rows_are_those_of_rows_as_they_came() -> None:
    """In two parts; rows that are in two tiles count once. On a mesh keys and values of prompts stay where they are."""
    plain, expected, _ = trained({}, ())
    assert np.ptp(plain[:, 0]) > 1e-3
    for axes, shapes in (({}, SHAPES), ({"data": 2, "fsdp": 2, "tensor": 2}, ((1, 16), (2, 8)))):
        found, weights, text = trained(axes, shapes)
        np.testing.assert_allclose(found, plain, atol=1e-5, rtol=1e-5)
        for name, array in expected.items():
            np.testing.assert_allclose(weights[name], array, atol=1e-5, err_msg=name)
        moved = [sizes for kind in counts.counted(text).shapes for _, sizes in counts.sizes_of(kind)] if text else []
        assert bool(axes) == bool(moved)
        assert not [sizes for sizes in moved if BEFORE in sizes and C in sizes]


def found_widths(method: Any, policy: bridge.Policy, prompts: list[list[int]]) -> tuple[int, ...]:
    """Of rounds that take the prompts as they stand."""
    questions = method.read(policy, prompts)
    rounds = [questions[i : i + N] for i in range(len(questions) - N)]
    return method.widths(method.init(policy, jax.random.key(0)), questions, rounds)


def test_nothing_is_compiled_after_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """For prompts of several lengths and answers of many; sampler and trainer agree on every token."""
    monkeypatch.setattr(packing, "shapes_of", lambda *_: SHAPES[:1])
    monkeypatch.setattr(rollout, "WORTH", 0.01)
    policy, prompts = bridge.init(TINY, jax.random.key(1), compute=REMADE), [[3] * n for n in (1, 1, 2, 1, 2, 2, 6, 1)]
    policy = bridge.Policy(policy.decoder, policy.arrays(), replace(policy.origin, stop_tokens=tuple(range(8))))
    compiled: list[str] = []
    rounds: list[int] = []

    def heard(event: str, _: float, **__: Any) -> None:
        if event == COMPILED:
            compiled.append(event)

    def counted(*_: Any) -> None:
        rounds.append(len(compiled))

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        method = replace(method_of(SPPO, 2), judge=SumJudge(), decay_rounds=4)
        assert len(set(map(len, prompts))) > len(found_widths(method, policy, prompts)) > 1
        found = method.fit(policy, prompts, steps=4, key=jax.random.key(4), callback=counted).history
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert rounds[0] > 0
    assert set(rounds) == {rounds[0]}
    assert found[0]["kl/initial"] == pytest.approx(0.0, abs=1e-6)
    assert abs(found[-1]["kl/initial"]) > 1e-3
    assert len({metrics["response_length"] for metrics in found}) > 1
    assert all(metrics["sampling/sampling_logp_difference/max"] < 1e-5 for metrics in found)
