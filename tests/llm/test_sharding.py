"""One device, eight pretended ones and two processes of four compute the same, and each holds its share only."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import llm_bridge as bridge
from llm_bridge.model import sharding
from llm_bridge.model.weights import weights
from tests.llm.cases import config_of, prompts, rows
from tests.llm.checkpoints import folder_of, padded
from tests.processes import JOIN, run_two

CASE = "mistral_full"
SPECS = {
    "embedding": PartitionSpec("tensor", "fsdp"),
    "layers.query": PartitionSpec(None, "fsdp", "tensor"),
    "layers.output": PartitionSpec(None, "tensor", "fsdp"),
    "layers.down": PartitionSpec(None, "tensor", "fsdp"),
    "layers.attention_norm": PartitionSpec(None, None),
    "head": PartitionSpec("fsdp", "tensor"),
}


def batch() -> tuple[np.ndarray, np.ndarray]:
    given = rows(CASE)
    return padded([given[i % 3] for i in range(8)], [0, 7, 28, 0, 3, 5, 0, 0], 40)


@pytest.fixture(scope="module")
def alone(root: Path) -> dict[str, np.ndarray]:
    policy = bridge.load(folder_of(root, CASE))
    found = policy.generate(prompts("mistral")[:8], max_new_tokens=8, temperature=0.0, stop=())
    return {
        "log_probs": np.asarray(policy.log_probs(*batch())),
        "tokens": np.asarray(found.tokens),
        "generated": np.asarray(found.log_probs),
    }


@pytest.mark.parametrize("shape", [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_eight_devices_compute_as_one(shape: dict[str, int], alone: dict[str, np.ndarray], root: Path) -> None:
    mesh = jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=(AxisType.Explicit,) * len(shape))
    policy = bridge.load(folder_of(root, CASE), mesh=mesh)
    np.testing.assert_allclose(policy.log_probs(*batch()), alone["log_probs"], atol=1e-5, rtol=0)
    found = policy.generate(prompts("mistral")[:8], max_new_tokens=8, temperature=0.0, stop=())
    np.testing.assert_array_equal(found.tokens, alone["tokens"])
    np.testing.assert_allclose(found.log_probs, alone["generated"], atol=1e-5, rtol=0)


def test_weights_and_cache_are_divided(root: Path) -> None:
    """By the table's specs; and a device's bytes are its share, no more."""
    mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
    policy = bridge.load(folder_of(root, CASE), mesh=mesh)
    arrays = policy.arrays()
    for name, spec in SPECS.items():
        assert arrays[name].sharding.spec == spec, name
    held = dict.fromkeys(jax.devices(), 0)
    for array in arrays.values():
        for shard in array.addressable_shards:
            held[shard.device] += shard.data.nbytes
    norms = sum(array.nbytes for name, array in arrays.items() if "norm" in name)
    matrices = sum(array.nbytes for name, array in arrays.items() if "norm" not in name)
    assert set(held.values()) == {matrices // 8 + norms}

    tokens = jnp.ones((8, 16), jnp.int32)
    padding = jnp.zeros(8, jnp.int32)
    prefill = jax.jit(policy.decoder.prefill, static_argnums=3)
    _, cache = prefill(arrays, tokens, padding, 32)
    assert cache.keys.shape == policy.decoder.cache_shape(8, 32)
    for part in (cache.keys, cache.values):
        assert tuple(part.sharding.spec)[:3] == (None, "fsdp", "tensor")
        assert {shard.data.nbytes for shard in part.addressable_shards} == {part.nbytes // 8}


def test_every_weight_of_every_family_has_a_rule() -> None:
    from llm_bridge.checkpoint.loading import architecture_of
    from tests.llm.cases import CASES

    for case in CASES:
        for weight in weights(architecture_of(config_of(case), case)).values():
            assert set(weight.full_axes) <= set(sharding.RULES)
            assert len(weight.full_axes) == len(weight.full_shape)


@pytest.mark.parametrize(
    ("case", "shape", "words"),
    [
        ("llama", {"tensor": 2}, "vocabulary 101 is not divisible by the 2 devices of axis 'tensor'"),
        (CASE, {"fsdp": 5}, "width 48 is not divisible by the 5 devices of axis 'fsdp'"),
        (CASE, {"tensor": 4}, "2 key-value heads cannot be divided by the 4 devices"),
        (CASE, {"model": 2}, "expected a mesh with axes among data, fsdp, tensor, got model"),
    ],
)
def test_what_does_not_fit_the_mesh_is_refused_before_it_is_read(
    case: str, shape: dict[str, int], words: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = int(np.prod(list(shape.values())))
    mesh = Mesh(np.array(jax.devices()[:n]).reshape(*shape.values()), tuple(shape))
    monkeypatch.setattr("llm_bridge.checkpoint.loading.TensorFiles", None)
    with pytest.raises(bridge.BridgeError, match=words):
        bridge.load(folder_of(root, case), mesh=mesh)


WORKER = """
import numpy as np
folder, out = sys.argv[3], sys.argv[4]
import llm_bridge as bridge
from llm_bridge.model.sharding import whole
from tests.llm.cases import prompts
from tests.llm.test_sharding import batch
mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"))
assert mesh.is_multi_process and len(jax.local_devices()) == 4
policy = bridge.load(folder, mesh=mesh)
assert len(policy.arrays()["head"].addressable_shards) == 4
everywhere = jax.jit(lambda x: x, out_shardings=whole(policy.mesh))
found = policy.generate(prompts("mistral")[:8], max_new_tokens=8, temperature=0.0, stop=())
np.savez(
    f"{out}/{process}.npz",
    log_probs=everywhere(policy.log_probs(*batch())),
    tokens=everywhere(found.tokens),
    generated=everywhere(found.log_probs),
)
bridge.save(policy, f"{out}/saved")
fresh = bridge.init(folder, jax.random.key(0), mesh=mesh)
bridge.add_adapter(fresh, jax.random.key(1), rank=2, alpha=2.0)
"""


def test_two_processes_compute_as_one_device(alone: dict[str, np.ndarray], root: Path, tmp_path: Path) -> None:
    """Over gloo; and the first one writes what both hold."""
    done = run_two(JOIN + WORKER, folder_of(root, CASE), tmp_path)
    assert [status for status, _ in done] == [0, 0], done
    for process in range(2):
        found = np.load(tmp_path / f"{process}.npz")
        np.testing.assert_array_equal(found["tokens"], alone["tokens"])
        np.testing.assert_allclose(found["log_probs"], alone["log_probs"], atol=1e-5, rtol=0)
        np.testing.assert_allclose(found["generated"], alone["generated"], atol=1e-5, rtol=0)
    read = bridge.load(folder_of(root, CASE)).arrays()
    for name, array in bridge.load(tmp_path / "saved").arrays().items():
        np.testing.assert_array_equal(array, read[name], err_msg=name)
