"""Low-rank adapters (LoRA; Hu et al. 2022): y = x W + (alpha / rank) (x A) B, in the files of PEFT.

A and B are parameters of type `nnx.LoRAParam` beside W, stacked over layers like it, so a scan carries them along and
an optimiser with `wrt=nnx.LoRAParam` trains nothing else. The base is shared, not copied: a policy, its magnet and its
reference can be three adapters on one set of weights. B starts at 0, so a fresh adapter changes nothing.

Where a family fuses several maps into one tensor (phi3, gpt2), PEFT adapts the fused one with a common A, which one
adapter for each map here cannot promise to keep: such maps are refused.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Key
from safetensors.numpy import load_file, save_file

from llm_bridge import models, sharding
from llm_bridge.architecture import BridgeError
from llm_bridge.config import raise_all
from llm_bridge.export import on_host
from llm_bridge.policy import Policy
from llm_bridge.tensor_files import read_json
from llm_bridge.weights import Weight, weights

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
DEFAULT_TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
LOW_RANK = "base_model.model."
# What would change the mathematics, and the only values that are followed.
ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": (None, []),
    "layers_to_transform": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None,),
    "lora_bias": (False,),
}


def add_adapter(
    policy: Policy, key: Key[Array, ""], *, rank: int, alpha: float, targets: Sequence[str] = DEFAULT_TARGETS
) -> Policy:
    """The policy with a fresh adapter that changes nothing yet; the base's arrays are shared.

    Args:
        policy: without an adapter.
        key: of the random A (uniform, as torch draws a linear map); B is 0.
        rank: of the products A B.
        alpha: alpha / rank is their factor.
        targets: which maps have one: among query, key, value, output, gate, up, down.

    Raises:
        BridgeError: there is no such map, or it cannot be adapted.
    """
    _check_targets(policy, targets)
    if rank < 1:
        raise BridgeError(f"expected a rank >= 1, got {rank}")
    dtype, added = policy.weights["embedding"].dtype, {}
    for own, target in zip(jax.random.split(key, len(targets)), targets, strict=True):
        down, up = _shapes(policy, target, rank)
        bound = down.shape[0] ** -0.5
        drawn = jax.random.uniform(own, down.full_shape, jnp.float32, -bound, bound).astype(dtype)
        added |= _named(policy, target, drawn, jnp.zeros(up.full_shape, dtype), (down, up))
    return _with(policy, added, alpha / rank)


def merge(policy: Policy) -> Policy:
    """The same policy with W + (alpha / rank) A B in place of the adapter; products are made in float32."""
    arrays, scale = policy.arrays(), policy.decoder.adapter_scale
    merged = {name: array for name, array in arrays.items() if ".lora_" not in name}
    for name, array in merged.items():
        if f"{name}.lora_a" in arrays:
            down, up = (arrays[f"{name}.lora_{side}"].astype(jnp.float32) for side in "ab")
            change = jnp.matmul(down, up, precision=jax.lax.Precision.HIGHEST)
            total = (array.astype(jnp.float32) + scale * change).astype(array.dtype)
            merged[name] = jax.device_put(total, array.sharding)
    return Policy(replace(policy.decoder, adapter_scale=0.0), merged, policy.origin)


def save_adapter(policy: Policy, folder: str | os.PathLike[str]) -> Path:
    """Write `adapter_config.json` and `adapter_model.safetensors`, which PEFT and vLLM read.

    Raises:
        BridgeError: the policy has no adapter.
    """
    family, arrays, folder = models.load(policy.origin.model_type), policy.arrays(), Path(folder)
    targets = [name.removeprefix("layers.").removesuffix(".lora_a") for name in arrays if name.endswith(".lora_a")]
    if not targets:
        raise BridgeError("the policy has no adapter to save; add_adapter makes one")
    rank = arrays[f"layers.{targets[0]}.lora_a"].shape[-1]
    tensors = {}
    for name, weight, layer in _tensors(policy, family, targets):
        tensors[name] = np.ascontiguousarray(on_host(arrays[weight], (layer,)).T)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": policy.origin.folder,
        "r": rank,
        "lora_alpha": policy.decoder.adapter_scale * rank,
        "lora_dropout": 0.0,
        "target_modules": [_module(family, target).rpartition(".")[2] for target in targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / FILE, {"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return folder


def load_adapter(policy: Policy, folder: str | os.PathLike[str]) -> Policy:
    """The policy with an adapter that PEFT or `save_adapter` has written; the base's arrays are shared.

    Raises:
        BridgeError: the adapter is of a kind that is not followed, or its tensors do not fit; lists every reason.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    problems = [
        f"{name} = {config[name]!r} is not supported"
        for name, allowed in ONLY.items()
        if name in config and config[name] is not None and config[name] not in allowed
    ]
    family = models.load(policy.origin.model_type)
    if not (folder / FILE).exists():
        problems.append(f"expected {FILE}; other weights are refused")
    raise_all(str(folder / CONFIG), problems)
    stored = load_file(folder / FILE)
    targets = [
        t for t in DEFAULT_TARGETS if any(f".{_module(family, t).rpartition('.')[2]}.lora_A" in n for n in stored)
    ]
    _check_targets(policy, targets)
    rank, dtype, added = int(config["r"]), policy.weights["embedding"].dtype, {}
    expected = {name: (weight, layer) for name, weight, layer in _tensors(policy, family, targets)}
    if set(expected) != set(stored):
        raise BridgeError(f"{folder / FILE}: missing or unknown: {', '.join(sorted(set(expected) ^ set(stored))[:8])}")
    for target in targets:
        pair = _shapes(policy, target, rank)
        parts = []
        for side, weight in zip("AB", pair, strict=True):
            names = [n for n, (w, _) in expected.items() if w == f"layers.{target}.lora_{side.lower()}"]
            if wrong := [n for n in names if stored[n].shape != weight.shape[::-1]]:
                raise BridgeError(f"{folder / FILE}: {wrong[0]} has the shape {stored[wrong[0]].shape}")
            parts.append(np.stack([stored[n].T for n in names]).astype(dtype))
        added |= _named(policy, target, parts[0], parts[1], pair)
    return _with(policy, added, float(config["lora_alpha"]) / rank)


def _check_targets(policy: Policy, targets: Sequence[str]) -> None:
    family, known = models.load(policy.origin.model_type), weights(policy.architecture)
    problems = []
    if any(".lora_" in name for name in policy.weights):
        problems.append("the policy has an adapter already: merge it first")
    for target in targets:
        weight = known.get(f"layers.{target}")
        if target not in DEFAULT_TARGETS or weight is None:
            problems.append(f"there is no map {target!r} (expected some of {', '.join(DEFAULT_TARGETS)})")
        elif family.TENSORS[f"layers.{target}"].fused or len(weight.stack) > 1:
            problems.append(f"{target!r} is fused with others, or one of many experts, and cannot be adapted")
        elif not family.TENSORS[f"layers.{target}"].transposed:
            problems.append(
                f"{target!r} lies as [in, out] in checkpoints of this family, which PEFT adapts differently"
            )
    raise_all("the adapter does not fit the policy", problems)


def _shapes(policy: Policy, target: str, rank: int) -> tuple[Weight, Weight]:
    """A and B as weights, so that they are placed as what they belong to."""
    weight = weights(policy.architecture)[f"layers.{target}"]
    down = Weight((weight.shape[0], rank), (weight.axes[0], "channels"), weight.stack)
    return down, Weight((rank, weight.shape[1]), ("channels", weight.axes[1]), weight.stack, "zeros")


def _named(policy: Policy, target: str, down: Any, up: Any, pair: tuple[Weight, Weight]) -> dict[str, Array]:
    placed = {}
    for side, array, weight in zip("ab", (down, up), pair, strict=True):
        place = NamedSharding(policy.mesh, sharding.spec(weight.full_axes, policy.mesh))
        placed[f"layers.{target}.lora_{side}"] = jax.device_put(np.asarray(array), place)
    return placed


def _with(policy: Policy, added: dict[str, Array], scale: float) -> Policy:
    return Policy(replace(policy.decoder, adapter_scale=scale), policy.arrays() | added, policy.origin)


def _module(family: ModuleType, target: str) -> str:
    """The module's path in torch, such as "layers.{layer}.self_attn.q_proj"."""
    return family.TENSORS[f"layers.{target}"].name.removesuffix(".weight")


def _tensors(policy: Policy, family: ModuleType, targets: Sequence[str]) -> list[tuple[str, str, int]]:
    """Name in the file, name here, layer: of every A and B."""
    return [
        (
            f"{LOW_RANK}{family.PREFIX}{_module(family, target).format(layer=layer)}.lora_{side}.weight",
            f"layers.{target}.lora_{side.lower()}",
            layer,
        )
        for target in targets
        for layer in range(policy.architecture.n_layers)
        for side in "AB"
    ]
