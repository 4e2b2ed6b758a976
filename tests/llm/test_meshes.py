"""Training on a mesh: the numbers of one device, no logits that move or are whole, whatever the mesh."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import llm_bridge as bridge
import mmd
from llm_bridge.model import sharding
from llm_bridge.plan import counts
from llm_bridge.policy import generate, layout, scoring
from llm_bridge.policy.sampling import Settings
from llm_bridge.run.run_state import RunState
from llm_bridge.train.arena import Samples
from llm_bridge.train.learning import Learner
from llm_bridge.train.objective import Judged
from tests.llm.cases import config_of

MESHES: dict[str, dict[str, int]] = {
    "fsdp": {"fsdp": 8},
    "data": {"data": 8},
    "fsdp_tensor": {"fsdp": 4, "tensor": 2},
    "all": {"data": 2, "fsdp": 2, "tensor": 2},
    "data_tensor": {"data": 4, "tensor": 2},
}
N, G, BEFORE, AFTER, ROUNDS, EPOCHS, V, D = 8, 2, 6, 10, 4, 5, 208, 48
KINDS = (np.uint32, np.int32, np.float32, np.int32, np.float32, np.int32)  # of `Settings`
CHUNK = 2  # tokens of a row whose logits are made at a time


def method_of(n_prompts: int) -> bridge.MPO:
    return bridge.MPO(
        eta=0.7, alpha=0.2, group_size=G, prompts_per_round=n_prompts, max_new_tokens=AFTER, epochs=EPOCHS,
        learning_rate=3e-3, prompts_at_a_time=4 if n_prompts == N else None, magnet=mmd.Refresh(every=2),
    )  # fmt: skip


def rounds(n_prompts: int) -> list[tuple[Samples, Judged]]:
    """The same draws and verdicts for every mesh."""
    rng, found = np.random.default_rng(3), []
    for _ in range(ROUNDS):
        shape = (n_prompts * G, BEFORE + AFTER)
        response = np.arange(AFTER)[None, :] < rng.integers(2, AFTER, n_prompts * G)[:, None]
        tokens = rng.integers(3, V, shape).astype(np.int32)
        tokens[:, :BEFORE] = np.repeat(tokens[::G, :BEFORE], G, axis=0)
        marked = np.concatenate([np.zeros((n_prompts * G, BEFORE), bool), response], axis=1)
        payoff = rng.normal(size=(n_prompts, G)).astype(np.float32)
        columns: Any = (tokens, marked | (np.arange(BEFORE + AFTER) < BEFORE), marked, np.zeros(shape, np.float32))
        verdicts: Any = (payoff, np.zeros((n_prompts, G, G), np.float32))
        found.append((Samples(*columns), Judged(*verdicts)))
    return found


def mesh_of(axes: dict[str, int]) -> Mesh:
    devices = np.array(jax.devices()[: math.prod(axes.values())]).reshape(*axes.values())
    return Mesh(devices, tuple(axes), axis_types=(AxisType.Auto,) * len(axes))


def program_of(method: bridge.MPO, state: Any, samples: Samples, judged: Judged) -> str:
    """The text of what `learn` runs."""
    learner = replace(method.learner(state), answers=AFTER)
    carried, others = (state.weights, state.optimizer, state.counters), (state.base, state.magnet, state.initial)
    program: Any = sharding.program(Learner.steps, learner, carried)
    lowered = program.lower(carried, samples, judged, method.numbers(state), method._rate(state), others)
    return str(lowered.compile().as_text())


def begun(name: str | None, n_prompts: int) -> tuple[bridge.MPO, Any, Any]:
    """A method, the state before its first round on a mesh, and where the mesh has rows."""
    mesh = mesh_of(MESHES[name]) if name else None
    config = config_of("mistral_full") | {"vocab_size": V, "num_hidden_layers": 2}
    policy = bridge.init(config, jax.random.key(1), mesh=mesh, compute=bridge.Compute(remat="none"))
    place = sharding.rows(policy.mesh, 2) if n_prompts * G % 8 == 0 else sharding.whole(policy.mesh)
    method = method_of(n_prompts)
    return method, method.init(policy, jax.random.key(2)), place


def learned(method: bridge.MPO, state: Any, place: Any, given: tuple[Samples, Judged]) -> tuple[Any, list[float]]:
    """The state after a round of these draws and verdicts, and its metrics."""
    samples = Samples(*(jax.device_put(part, place) for part in given[0][:4]))
    state, metrics = method.learn(state, samples._replace(answers=AFTER), given[1])
    return method.settle(state), [float(metrics[key]) for key in ("loss", "grad_norm", "kl/magnet", "entropy")]


@cache
def trained(name: str | None, n_prompts: int) -> tuple[np.ndarray, str]:
    """Metrics of some rounds, and the text of their program."""
    method, state, place = begun(name, n_prompts)
    found, text = [], ""
    for given in rounds(n_prompts):
        if not text:
            samples = Samples(*(jax.device_put(part, place) for part in given[0][:4]))
            text = program_of(method, state, samples, given[1])
        state, metrics = learned(method, state, place, given)
        found.append(metrics)
    return np.array(found), text


@pytest.fixture(autouse=True)
def few_logits_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "chunk_length", lambda *_: CHUNK)


@pytest.mark.parametrize("name", MESHES)
def test_twenty_steps_on_every_mesh_are_those_of_one_device(name: str) -> None:
    np.testing.assert_allclose(trained(name, N)[0], trained(None, N)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["fsdp", None])
def test_a_checkpoint_goes_on_on_another_mesh_or_without_one(name: str | None, tmp_path: Path) -> None:
    """Two rounds on a mesh of data alone, two on another: weights, moments and magnet come back where they belong."""
    method, state, place = begun("data", N)
    given = rounds(N)
    for each in given[:2]:
        state, _ = learned(method, state, place, each)
    RunState(tmp_path, {}).save(2, state)
    _, template, place = begun(name, N)
    saved = RunState(tmp_path, {}).restore(template)
    assert saved is not None
    state, found = saved.state, []
    assert [leaf.sharding for leaf in jax.tree.leaves(state)] == [leaf.sharding for leaf in jax.tree.leaves(template)]
    for each in given[2:]:
        state, metrics = learned(method, state, place, each)
        found.append(metrics)
    np.testing.assert_allclose(found, trained(None, N)[0][2:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MESHES)
def test_no_logits_are_whole_and_none_move(name: str) -> None:
    """What is as large as a vocabulary moves only as the head, and is only there for a few tokens of a row."""
    (_, text), axes = trained(name, N), MESHES[name]
    share = V // axes.get("tensor", 1)
    rows = 4 * G // min(8 // axes.get("tensor", 1), 4 * G)  # of a part, on a device
    computations, _ = counts.parsed(text)
    arrays = {sizes for lines in computations.values() for one in lines for _, sizes in counts.sizes_of(one.result)}
    tables = {D // n for n in (1, *axes.values())}
    of_tokens = [sizes for sizes in arrays if not tables & set(sizes) and max(sizes, default=0) <= V]
    of_vocabulary = [sizes for sizes in of_tokens if {V, share} & set(sizes)]
    largest = max(map(math.prod, of_vocabulary))
    assert rows * CHUNK * share <= largest < rows * AFTER * share
    moved = {sizes for kind in counts.counted(text).shapes for _, sizes in counts.sizes_of(kind)}
    assert not [sizes for sizes in moved if {V, share} & set(sizes) and len(sizes) > 1 and not tables & set(sizes)]
    assert "data" in MESHES[name] or any({V, share} & set(sizes) for sizes in moved)


def test_rows_that_the_mesh_does_not_divide_are_filled_up() -> None:
    """Six rows on eight devices: the same numbers, and each device works on one row, not on six."""
    (found, text), (alone, whole) = trained("fsdp", 3), trained(None, 3)
    np.testing.assert_allclose(found, alone, atol=1e-5, rtol=1e-5)
    assert counts.counted(text).flops < counts.counted(whole).flops / 4


def test_weights_for_drawing_are_divided_by_heads_and_vocabulary_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same weights, no device holds more than its share, and none moves for a token."""
    monkeypatch.setattr(layout, "A_SUM", 0)  # as if the model were large
    monkeypatch.setattr(layout, "LINKS", 0)
    policy = bridge.init(config_of("mistral_full") | {"vocab_size": V}, jax.random.key(1), mesh=mesh_of({"fsdp": 8}))
    decoder, weights = layout.for_drawing(policy.decoder, policy.arrays(), 8)
    assert dict(decoder.mesh.shape) == {"data": 1, "fsdp": 4, "split": 2, "tensor": 1}  # two key-value heads
    for name, array in policy.arrays().items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
        assert "norm" in name or weights[name].sharding.shard_shape(array.shape) != array.shape
    prompts, settings = (
        np.ones((8, 16), np.int32),
        Settings(np.zeros(2, np.uint32), 4, 1.0, V, 1.0, np.full((4, 1), -1)),
    )
    shape = generate.Shape(4, False, False, 0, "threefry2x32")
    padding = np.zeros(8, np.int32)
    put = [jax.device_put(part, sharding.rows(decoder.mesh, part.ndim)) for part in (prompts, padding)]
    numbers = Settings(*(np.asarray(part, kind) for part, kind in zip(settings, KINDS, strict=True)))
    text = str(generate.run.lower(decoder, shape, weights, tuple(put), numbers).compile().as_text())
    before, after = counts.counted(text, 0), counts.counted(text, 1)
    token = 4 * D * 2 * (2 * 3 + 1)  # two sums a layer and one for the embedding, of two rows on a device
    assert sum(after.results.values()) - sum(before.results.values()) < 1.2 * token
