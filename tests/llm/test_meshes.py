"""Training on a mesh: the numbers of one device, no logits that move or are whole, whatever the mesh."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import llm_bridge as bridge
import mmd
from llm_bridge.model import sharding
from llm_bridge.train import learning
from llm_bridge.train.arena import Samples
from llm_bridge.train.objective import Judged
from tests.llm.cases import config_of

MESHES: dict[str, dict[str, int]] = {
    "fsdp": {"fsdp": 8},
    "data": {"data": 8},
    "fsdp_tensor": {"fsdp": 4, "tensor": 2},
    "all": {"data": 2, "fsdp": 2, "tensor": 2},
    "data_tensor": {"data": 4, "tensor": 2},
}
N, G, BEFORE, AFTER, ROUNDS, EPOCHS = 8, 2, 6, 10, 4, 5
METHOD = bridge.MPO(
    eta=0.7, alpha=0.2, group_size=G, prompts_per_round=N, max_new_tokens=AFTER, epochs=EPOCHS, learning_rate=3e-3,
    prompts_at_a_time=4, magnet=mmd.Refresh(every=2),
)  # fmt: skip


def rounds(n_prompts: int) -> list[tuple[Samples, Judged]]:
    """The same draws and verdicts for every mesh."""
    rng, found = np.random.default_rng(3), []
    for _ in range(ROUNDS):
        shape = (n_prompts * G, BEFORE + AFTER)
        ends = rng.integers(2, AFTER, n_prompts * G)
        response = np.arange(AFTER)[None, :] < ends[:, None]
        tokens = rng.integers(3, 120, shape).astype(np.int32)
        tokens[:, :BEFORE] = np.repeat(tokens[::G, :BEFORE], G, axis=0)
        marked = np.concatenate([np.zeros((n_prompts * G, BEFORE), bool), response], axis=1)
        mask = marked | (np.arange(BEFORE + AFTER) < BEFORE)
        payoff = rng.normal(size=(n_prompts, G)).astype(np.float32)
        judged = Judged(payoff, np.zeros((n_prompts, G, G), np.float32))
        found.append((Samples(tokens, mask, marked, np.zeros(shape, np.float32), answers=AFTER), judged))
    return found


def trained(axes: dict[str, int] | None, n_prompts: int) -> tuple[list[float], str]:
    """Losses of some rounds, and the text of their program."""
    mesh = None
    if axes:
        devices = np.array(jax.devices()[: int(np.prod(list(axes.values())))]).reshape(*axes.values())
        mesh = Mesh(devices, tuple(axes), axis_types=(AxisType.Auto,) * len(axes))
    policy = bridge.init(config_of("mistral_full"), jax.random.key(1), mesh=mesh)
    method = METHOD if n_prompts == N else bridge.MPO(**vars(METHOD) | {"prompts_at_a_time": None})
    state, found, text = method.init(policy, jax.random.key(2)), [], ""
    place = sharding.rows(policy.mesh, 2) if n_prompts * G % 8 == 0 else sharding.whole(policy.mesh)
    for samples, judged in rounds(n_prompts):
        put = [jax.device_put(part, place) for part in samples[:4]]
        state, metrics = method.learn(state, Samples(*put, answers=AFTER), judged)
        state = method.settle(state)
        found += [float(metrics[name]) for name in ("loss", "grad_norm", "kl/magnet", "entropy")]
    return found, text


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return trained(None, N)[0]


@pytest.mark.parametrize("name", MESHES)
def test_the_losses_of_one_device_on_every_mesh(name: str, alone: list[float]) -> None:
    np.testing.assert_allclose(trained(MESHES[name], N)[0], alone, atol=1e-5, rtol=1e-5)
