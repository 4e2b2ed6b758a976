"""Adapters: nothing at first, the merged weights' policy afterwards, PEFT's names, no copy of the base."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from flax import nnx
from safetensors.numpy import load_file, save_file

import llm_bridge as bridge
from llm_bridge.checkpoint import adapters
from tests.llm.cases import rows
from tests.llm.checkpoints import folder_of, padded
from tests.llm.test_tokenizer import tokenizer


@pytest.fixture(scope="module")
def base(root: Path) -> bridge.Policy:
    return bridge.load(folder_of(root, "llama"))


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    return padded([row[:12] for row in rows("llama")], [0, 0, 0], 12)


@pytest.fixture(scope="module")
def trained(base: bridge.Policy, batch: tuple[np.ndarray, np.ndarray]) -> bridge.Policy:
    """Twenty steps, of the adapter alone."""
    policy = bridge.add_adapter(base, jax.random.key(1), rank=4, alpha=8.0, targets=("query", "value", "down"))
    before = base.log_probs(*batch)
    np.testing.assert_allclose(policy.log_probs(*batch), before, rtol=0, atol=1e-5)
    optimizer = nnx.Optimizer(policy, optax.adam(1e-2), wrt=nnx.LoRAParam)

    @nnx.jit
    def step(policy: bridge.Policy, optimizer: nnx.Optimizer) -> jax.Array:
        wrt = nnx.DiffState(0, nnx.LoRAParam)
        loss, grads = nnx.value_and_grad(lambda p: -p.log_probs(*batch).sum(), argnums=wrt)(policy)
        optimizer.update(policy, grads)
        return loss

    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        losses = [float(step(policy, optimizer)) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    return policy


def test_training_moves_the_adapter_and_the_base_is_shared(base: bridge.Policy, trained: bridge.Policy) -> None:
    for name, array in base.arrays().items():
        np.testing.assert_array_equal(trained.arrays()[name], array)
    two = [bridge.add_adapter(base, jax.random.key(i), rank=2, alpha=4.0) for i in range(2)]
    for name, array in base.arrays().items():
        pointers = {policy.arrays()[name].unsafe_buffer_pointer() for policy in (base, *two)}
        assert pointers == {array.unsafe_buffer_pointer()}, name


def test_merging_changes_no_log_prob(trained: bridge.Policy, batch: tuple[np.ndarray, np.ndarray]) -> None:
    merged = bridge.merge(trained)
    assert not [name for name in merged.weights if "lora" in name]
    np.testing.assert_allclose(merged.log_probs(*batch), trained.log_probs(*batch), atol=2e-5, rtol=0)
    assert np.abs(np.asarray(merged.arrays()["layers.query"] - trained.arrays()["layers.query"])).max() > 1e-3


def test_files_are_those_of_peft(base: bridge.Policy, trained: bridge.Policy, tmp_path: Path) -> None:
    """Names and shapes as PEFT documents them, W + alpha / r B A, and the same adapter when read again."""
    folder = bridge.save_adapter(trained, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj", "v_proj"]
    stored = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    a, b = stored[name.format("A")], stored[name.format("B")]
    assert (a.shape, b.shape, len(stored)) == ((4, 80), (48, 4), 18)
    change = bridge.merge(trained).arrays()["layers.down"][1] - base.arrays()["layers.down"][1]
    np.testing.assert_allclose(np.asarray(change).T, 8.0 / 4 * b @ a, atol=1e-6, rtol=0)
    again = bridge.load_adapter(base, folder)
    assert again.decoder == trained.decoder
    for key, array in trained.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key], array, err_msg=key)


def test_what_cannot_be_adapted_or_read(
    base: bridge.Policy, trained: bridge.Policy, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(bridge.BridgeError, match="no map 'router'"):
        bridge.add_adapter(base, jax.random.key(0), rank=2, alpha=2.0, targets=("router",))
    with pytest.raises(bridge.BridgeError, match="'gate' is fused with others"):
        bridge.add_adapter(bridge.load(folder_of(root, "phi3")), jax.random.key(0), rank=2, alpha=2.0)
    with pytest.raises(bridge.BridgeError, match="has adapters"):
        bridge.save(trained, tmp_path / "full")
    folder = bridge.save_adapter(trained, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True, "bias": "all"}))
    with pytest.raises(bridge.BridgeError, match=r"bias = 'all'.*use_dora = True"):
        bridge.load_adapter(base, folder)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(iter(tensors)))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(bridge.BridgeError, match="does not fit the policy: missing: base_model"):
        bridge.load_adapter(base, folder)


@pytest.fixture(scope="module")
def adapter(trained: bridge.Policy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bridge.save_adapter(trained, tmp_path_factory.mktemp("adapters") / "adapter")


def test_an_adapters_folder_has_its_tokenizer_and_a_model_card(base: bridge.Policy, tmp_path: Path) -> None:
    home = tmp_path / "models--some--base" / "snapshots" / "1"
    home.mkdir(parents=True)
    tokenizer(home)
    policy = bridge.Policy(base.decoder, base.arrays(), replace(base.origin, folder=str(home)))
    adapted = bridge.add_adapter(policy, jax.random.key(0), rank=2, alpha=4.0)
    folder = bridge.save_adapter(adapted, tmp_path / "adapter")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    assert bridge.Tokenizer(folder).prompt("a b") == bridge.Tokenizer(home).prompt("a b")
    head, _, text = (folder / "README.md").read_text().removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(head) == {
        "base_model": "some/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["base_model:adapter:some/base", "lora"],
    }
    assert "# LoRA adapter of some/base\n\nRank 2, alpha 4, of q_proj, " in text
    shutil.rmtree(home)  # what was learned is saved all the same
    assert len(list(bridge.save_adapter(adapted, tmp_path / "alone").iterdir())) == 3


def test_what_is_no_adapter_is_named(base: bridge.Policy, root: Path, tmp_path: Path) -> None:
    whole = folder_of(root, "llama")
    for place, words in {
        whole: r"holds a whole model and no adapter: bridge\.load\(",
        tmp_path: r"has no adapter_config\.json; bridge\.save_adapter and PEFT write one",
        tmp_path / "nowhere": r"no folder; expected an adapter's, with adapter_config\.json",
    }.items():
        with pytest.raises(bridge.BridgeError, match=words):
            bridge.load_adapter(base, place)


UNWANTED = {
    "alora_invocation_tokens": [1],
    "target_parameters": ["mlp.experts.gate_up_proj"],
    "use_qalora": True,
    "init_lora_weights": "pissa",
    "corda_config": {"cache_file": "x"},
    "task_type": "SEQ_CLS",
    "use_newest_idea": False,
    "peft_type": None,
    "r": "4",
    "lora_alpha": float("nan"),
}
OF_PEFT = {
    "alpha_pattern": {},
    "eva_config": None,
    "init_lora_weights": "gaussian",
    "layers_pattern": None,
    "loftq_config": {},
    "megatron_core": "megatron.core",
    "peft_version": "0.18.0",
    "qalora_group_size": 16,
    "target_parameters": None,
    "use_qalora": False,
}


def test_every_field_of_an_adapter_is_known(base: bridge.Policy, adapter: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | OF_PEFT))
    bridge.load_adapter(base, folder)
    (folder / "adapter_config.json").write_text(json.dumps(config | UNWANTED))
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.load_adapter(base, folder)
    for name in {*UNWANTED} - {"r"} | {"expected r to be an integer >= 1, got '4'"}:
        assert name in str(caught.value)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(bridge.BridgeError, match=r"r to be an integer >= 1, got None; expected lora_alpha .* got None"):
        bridge.load_adapter(base, folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: {}, "has no tensors"),
        (lambda tensors: {n: np.full_like(t, np.inf) for n, t in tensors.items()}, "not finite"),
        (lambda tensors: {n: t.astype(np.int8) for n, t in tensors.items()}, "precision that is not supported"),
        (lambda tensors: {n: t[:, :-1] for n, t in tensors.items()}, r"has the shape .*, expected .* for r = 4"),
        (lambda tensors: {"x": np.zeros(2, np.float32)}, "unknown: x"),
    ],
)
def test_tensors_that_are_none_of_an_adapter(
    change, words: str, base: bridge.Policy, adapter: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    file = folder / "adapter_model.safetensors"
    save_file({n: np.ascontiguousarray(t) for n, t in change(load_file(file)).items()}, file)
    with pytest.raises(bridge.BridgeError, match=words):
        bridge.load_adapter(base, folder)


def test_files_and_policies_that_do_not_fit(
    base: bridge.Policy, trained: bridge.Policy, adapter: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(bridge.BridgeError, match="does not fit the policy: unknown: base_model"):
        bridge.load_adapter(bridge.load(folder_of(root, "gpt2")), adapter)
    with pytest.raises(bridge.BridgeError, match="exists and is not empty"):
        bridge.save_adapter(trained, adapter)
    (tmp_path / "file").write_text("")
    with pytest.raises(bridge.BridgeError, match="exists and is not empty"):
        bridge.save_adapter(trained, tmp_path / "file")
    with pytest.raises(bridge.BridgeError, match=r"cannot be written \(Not a directory\)"):
        bridge.save_adapter(trained, tmp_path / "file" / "adapter")
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(bridge.BridgeError, match="damaged or cannot be read"):
        bridge.load_adapter(base, folder)
    for targets in ((), "query", ("query", "query")):
        with pytest.raises(bridge.BridgeError, match="expected targets to be different maps"):
            bridge.add_adapter(base, jax.random.key(0), rank=2, alpha=2.0, targets=targets)


@pytest.mark.parametrize(("rank", "alpha"), [(2.5, 1.0), ("4", 1.0), (True, 1.0), (0, 1.0), (2, float("nan")), (2, 0)])
def test_a_scale_is_a_positive_number(rank: object, alpha: object) -> None:
    assert len(adapters.wrong_scale(rank, alpha, "rank", "alpha")) == 1


def test_an_adapter_on_bfloat16_weights_keeps_float32_log_probs(
    root: Path, batch: tuple[np.ndarray, np.ndarray]
) -> None:
    policy = bridge.load(folder_of(root, "llama"), dtype="bfloat16")
    adapted = bridge.add_adapter(policy, jax.random.key(1), rank=2, alpha=4.0)
    assert adapted.arrays()["layers.query.lora_a"].dtype == jnp.float32
    assert adapted.log_probs(*batch).dtype == jnp.float32
    np.testing.assert_array_equal(adapted.log_probs(*batch), policy.log_probs(*batch))
