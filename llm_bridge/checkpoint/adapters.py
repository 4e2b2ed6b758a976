"""Low-rank adapters (LoRA; Hu et al. 2022): y = x W + (alpha / rank) (x A) B, in the files of PEFT.

A and B are parameters of type `nnx.LoRAParam` beside W, stacked over layers like it, so a scan carries them along and
an optimiser with `wrt=nnx.LoRAParam` trains nothing else. The base is shared, not copied: a policy, its magnet and its
reference can be three adapters on one set of weights. B starts at 0, so a fresh adapter changes nothing.

Where a family fuses several maps into one tensor (phi3, gpt2), PEFT adapts the fused one with a common A, which one
adapter for each map here cannot promise to keep: such maps are refused.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Key
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llm_bridge.checkpoint.export import CARD, new_folder, on_host, write_beside
from llm_bridge.model import families, sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.config import is_integer, is_number, raise_all
from llm_bridge.model.ranges import SettingError
from llm_bridge.model.tensor_files import ADAPTER_CONFIG, DTYPES, read_json
from llm_bridge.model.tensor_files import CONFIG as MODEL_CONFIG
from llm_bridge.model.weights import Weight, weights
from llm_bridge.policy.policy import Policy, own_decoder

CONFIG, FILE = ADAPTER_CONFIG, "adapter_model.safetensors"
OWN_ADAPTERS = "brings adapters of its own"
DEFAULT_TARGETS = ("query", "key", "value", "output", "gate", "up", "down")
ALL_LINEAR = "all-linear"
LOW_RANK = "base_model.model."
# What would change the mathematics, and the only values that are followed; null is one everywhere but in the first.
ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "use_qalora": (False,),
    "use_bdlora": (False,),
    "fan_in_fan_out": (False,),
    "lora_bias": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": ([],),
    "layers_to_transform": ([],),
    "layer_replication": ([],),
    "trainable_token_indices": (),
    "target_parameters": ([],),
    "alora_invocation_tokens": (),
    "megatron_config": (),
    # Other initial values than these take something off the base's weights, which then are no longer those of the base.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
    "corda_config": ({},),
    "loftq_config": ({},),
    "lora_ga_config": ({},),
    "velora_config": ({},),
    "monteclora_config": ({},),
    "arrow_config": ({},),
    "kasa_config": ({},),
}
# Bookkeeping, training, and what the tensors say by themselves.
INERT = {
    *("r", "lora_alpha", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version"),
    *("lora_dropout", "target_modules", "exclude_modules", "layers_pattern", "megatron_core", "qalora_group_size"),
    *("eva_config", "runtime_config", "ensure_weight_tying"),
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

    Returns:
        A policy whose adapter is in float32 whatever the base's precision, as in PEFT: its first steps would be lost
        in a lower precision. Products are computed in the precision of activations, which does not change.

    Raises:
        BridgeError: there is no such map, or it cannot be adapted; or rank or alpha is no positive number, or the
            rank exceeds the model's width.
    """
    own_decoder(policy, OWN_ADAPTERS)
    raise_all("the adapter cannot be made", wrong_scale(rank, alpha, "rank", "alpha"))
    _check_targets(policy, targets)
    if rank > (width := policy.architecture.width):
        raise SettingError(f"expected {{rank}} <= {width}, the model's width, got {rank}")
    added: dict[str, Array] = {}
    for own, target in zip(jax.random.split(key, len(targets)), targets, strict=True):
        down, up = _shapes(policy, target, rank)
        bound = down.shape[0] ** -0.5
        drawn = jax.random.uniform(own, down.full_shape, jnp.float32, -bound, bound)
        added |= _named(policy, target, drawn, jnp.zeros(up.full_shape, jnp.float32), (down, up))
    return _with(policy, added, alpha / rank)


def targets_of(policy: Policy, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The maps that are meant by names of a checkpoint's modules, such as "q_proj", or by our own.

    Args:
        policy: whose family it is.
        names: of the maps; none, or "all-linear" as PEFT calls them, for all.

    Raises:
        BridgeError: the family has no such map.
    """
    family, known = families.load(policy.origin.model_type, policy.origin.family), weights(policy.architecture)
    there = [target for target in DEFAULT_TARGETS if f"layers.{target}" in known]
    by_name = {_module(family, target).rpartition(".")[2]: target for target in there} | {one: one for one in there}
    if not names or tuple(names) == (ALL_LINEAR,):
        return DEFAULT_TARGETS
    if unknown := [name for name in names if name not in by_name]:
        wanted = ", ".join(name for name in by_name if name not in there)
        raise SettingError(f"expected {{lora_target_modules}} among {wanted}, or {ALL_LINEAR}, got {unknown[0]!r}")
    return tuple(dict.fromkeys(by_name[name] for name in names))


def merge(policy: Policy) -> Policy:
    """The same policy with W + (alpha / rank) A B in place of the adapter; products are made in float32."""
    arrays, scale = policy.arrays(), own_decoder(policy, OWN_ADAPTERS).adapter_scale
    merged = {name: array for name, array in arrays.items() if ".lora_" not in name}
    for name, array in merged.items():
        if f"{name}.lora_a" in arrays:
            down, up = (arrays[f"{name}.lora_{side}"].astype(jnp.float32) for side in "ab")
            change = jnp.matmul(down, up, precision=jax.lax.Precision.HIGHEST)
            total = (array.astype(jnp.float32) + scale * change).astype(array.dtype)
            merged[name] = jax.device_put(total, array.sharding)
    return Policy(replace(policy.decoder, adapter_scale=0.0), merged, policy.origin)


def save_adapter(policy: Policy, folder: str | os.PathLike[str], *, card: str | None = None) -> Path:
    """Write an adapter as PEFT and vLLM read it.

    Beside `adapter_config.json` and `adapter_model.safetensors` the folder has a model card that names the base and
    claims no licence. It has the tokenizer of the base too, as far as the base's folder is still there.

    Args:
        policy: with an adapter.
        folder: must not exist, or be empty.
        card: the text of the model card; None for one that says what the adapter is.

    Raises:
        BridgeError: the policy has no adapter, or the folder is in use or cannot be written.
    """
    own_decoder(policy, f"{OWN_ADAPTERS}: bridge.save writes them")
    family, arrays = families.load(policy.origin.model_type, policy.origin.family), policy.arrays()
    targets = [name.removeprefix("layers.").removesuffix(".lora_a") for name in arrays if name.endswith(".lora_a")]
    if not targets:
        raise BridgeError("the policy has no adapter to save; add_adapter makes one")
    rank = arrays[f"layers.{targets[0]}.lora_a"].shape[-1]
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
    writes = jax.process_index() == 0
    with new_folder(folder, writes) as part:
        tensors = {
            name: np.ascontiguousarray(on_host(arrays[weight], (layer,)).T)
            for name, weight, layer in _tensors(policy, family, targets)
        }
        if writes:
            save_file(tensors, part / FILE, {"format": "pt"})
            write_beside(policy.origin, part, policy.decoder.temperature)
            (part / CARD).write_text(card or _card(config), "utf-8")
            (part / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    return Path(folder)


def _card(config: Mapping[str, Any]) -> str:
    """A model card with the fields of PEFT's; a base in the cache of the hub has its id."""
    folder = config["base_model_name_or_path"]
    cached = re.search(r"models--(.+?)--(.+?)[/\\]snapshots[/\\]", folder or "")
    base = "/".join(cached.groups()) if cached else folder
    known = [f"base_model: {json.dumps(base)}"] if base else []
    known += ["library_name: peft", "pipeline_tag: text-generation", "tags:"]
    known += [f"- {json.dumps(f'base_model:adapter:{base}')}"] if base else []
    load = f"AutoModelForCausalLM.from_pretrained({base!r})" if base else "base"
    lines = ["---", *known, "- lora", "---", "", f"# LoRA adapter{f' of {base}' if base else ''}", ""]
    lines += [f"Rank {config['r']}, alpha {config['lora_alpha']:g}, of {', '.join(config['target_modules'])}."]
    lines += ["Made with magnetic-mirror.", "", "```python"]
    return "\n".join([*lines, f'model = peft.PeftModel.from_pretrained({load}, "FOLDER")', "```", ""])


def load_adapter(policy: Policy, folder: str | os.PathLike[str]) -> Policy:
    """The policy with an adapter that PEFT or `save_adapter` has written; the base's arrays are shared.

    Like a fresh one it is in float32, whatever the precisions of its file and of the base.

    Raises:
        BridgeError: the adapter is of a kind that is not followed, or its tensors do not fit; lists every reason.
    """
    folder = Path(folder)
    rank, scale = _settings(_described(folder), folder)
    stored = _read(folder / FILE)
    named = {name: (weight, layer) for name, weight, layer in _tensors(policy, *_candidates(policy))}
    adapted = {named[name][0].split(".")[1] for name in stored if name in named}
    targets = [target for target in DEFAULT_TARGETS if target in adapted]
    expected = {name for name, (weight, _) in named.items() if weight.split(".")[1] in adapted}
    problems = _listed("unknown", set(stored) - expected) + _listed("missing", expected - set(stored))
    if targets:
        _check_targets(policy, targets)
    pairs: dict[str, dict[str, Weight]] = {
        target: dict(zip("ab", _shapes(policy, target, rank), strict=True)) for target in targets
    }
    for name in sorted(expected & set(stored)):
        _, target, side = named[name][0].split(".")
        shape = pairs[target][side[-1]].shape[::-1]
        if stored[name].shape != shape:
            problems.append(f"{name} has the shape {stored[name].shape}, expected {shape} for r = {rank}")
    raise_all(f"{folder / FILE}: the adapter does not fit the policy", problems)
    added: dict[str, Array] = {}
    for target in targets:
        parts = []
        for side in "ab":
            names = [name for name, (weight, _) in named.items() if weight == f"layers.{target}.lora_{side}"]
            parts.append(np.stack([stored[name].T for name in names]).astype(np.float32))
        added |= _named(policy, target, parts[0], parts[1], _shapes(policy, target, rank))
    return _with(policy, added, scale)


def look(folder: str | os.PathLike[str]) -> str:
    """The base that an adapter was made for, whose own files are whole.

    Raises:
        BridgeError: they are not, or they do not say which.
    """
    folder = Path(folder)
    config = _described(folder)
    _settings(config, folder)
    _read(folder / FILE)
    if not isinstance(base := config.get("base_model_name_or_path"), str):
        raise BridgeError(f"{folder / CONFIG}: expected base_model_name_or_path to name the adapter's base")
    return base


def _described(folder: Path) -> dict[str, Any]:
    """The content of an adapter's configuration.

    Raises:
        BridgeError: there is none; the message says what the folder holds instead.
    """
    if not (folder / CONFIG).exists():
        if (folder / MODEL_CONFIG).exists():
            raise BridgeError(f"{folder}: holds a whole model and no adapter: bridge.load({str(folder)!r}) loads it")
        there = "has no" if folder.is_dir() else "no folder; expected an adapter's, with"
        raise BridgeError(f"{folder}: {there} {CONFIG}; bridge.save_adapter and PEFT write one")
    return read_json(folder / CONFIG)


def _settings(config: Mapping[str, Any], folder: Path) -> tuple[int, float]:
    """The rank and the factor alpha / rank, if nothing else in the configuration would change what is computed."""
    problems = [
        f"{name} = {config[name]!r} is not supported"
        for name, allowed in ONLY.items()
        if config.get(name) is not None and not any(_same(config[name], one) for one in allowed)
    ]
    if config.get("peft_type") is None:
        problems.append("peft_type is missing, expected 'LORA'")
    unknown = [name for name, value in config.items() if value is not None and name not in INERT and name not in ONLY]
    problems += [f"{name} = {str(config[name])[:80]} is unknown, remove it if it changes nothing" for name in unknown]
    problems += wrong_scale(config.get("r"), config.get("lora_alpha"), "r", "lora_alpha")
    if not (folder / FILE).exists():
        problems.append(f"expected {FILE} beside it; other weights are refused")
    raise_all(str(folder / CONFIG), problems)
    return config["r"], config["lora_alpha"] / config["r"]


def _same(one: object, other: object) -> bool:
    """Equal, and 1 is not true."""
    return type(one) is type(other) and one == other


def wrong_scale(rank: Any, alpha: Any, rank_name: str, alpha_name: str) -> list[str]:
    """What is wrong with a rank and an alpha."""
    problems = []
    if not is_integer(rank) or rank < 1:
        problems.append(f"expected {rank_name} to be an integer >= 1, got {rank!r}")
    if not is_number(alpha) or alpha <= 0:
        problems.append(f"expected {alpha_name} to be a number > 0, got {alpha!r}")
    return problems


def _read(path: Path) -> dict[str, np.ndarray]:
    """An adapter's tensors, which are finite numbers."""
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BridgeError(f"{path}: damaged or cannot be read ({error})") from None
    if not stored:
        raise BridgeError(f"{path}: has no tensors, expected those of an adapter")
    floats = {name for name, tensor in stored.items() if tensor.dtype in DTYPES.values()}
    problems = _listed("of a precision that is not supported", set(stored) - floats)
    problems += _listed(
        "with values that are not finite",
        {name for name in floats if not np.isfinite(stored[name].astype(np.float32)).all()},
    )
    raise_all(str(path), problems)
    return stored


def _listed(what: str, names: Iterable[str]) -> list[str]:
    """One problem that many tensors have."""
    found = sorted(names)
    return [f"{what}: {', '.join(found[:8])}{f' and {len(found) - 8} more' if len(found) > 8 else ''}"] if found else []


def _candidates(policy: Policy) -> tuple[Any, list[str]]:
    """The family, and the maps that the policy has once a layer."""
    family, known = families.load(policy.origin.model_type, policy.origin.family), weights(policy.architecture)
    return family, [t for t in DEFAULT_TARGETS if f"layers.{t}" in known and len(known[f"layers.{t}"].stack) == 1]


def _check_targets(policy: Policy, targets: Sequence[str]) -> None:
    family, known = families.load(policy.origin.model_type, policy.origin.family), weights(policy.architecture)
    problems = []
    if isinstance(targets, str) or not len(targets) or len(set(targets)) < len(targets):
        raise BridgeError(f"expected targets to be different maps such as ('query', 'value'), got {targets!r}")
    if policy.is_adapted:
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


def _module(family: Any, target: str) -> str:
    """The module's path in torch, such as "layers.{layer}.self_attn.q_proj"."""
    return family.TENSORS[f"layers.{target}"].name.removesuffix(".weight")


def _tensors(policy: Policy, family: Any, targets: Sequence[str]) -> list[tuple[str, str, int]]:
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
