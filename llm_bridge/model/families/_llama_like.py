"""What the descendants of Llama share: field names, defaults, tensor names (Touvron et al. 2023)."""

from collections.abc import Sequence
from typing import Any

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields, joined_rotary_parameters, rotary
from llm_bridge.model.names import Stored

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

FULL, SLIDING = "full_attention", "sliding_attention"
PREFIX = "model."
IGNORED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)
"""Tensors that old checkpoints hold and that follow from the configuration."""

TENSORS = {
    "embedding": Stored("embed_tokens.weight"),
    "final_norm": Stored("norm.weight"),
    "head": Stored("lm_head.weight", transposed=True, prefixed=False),
    "layers.attention_norm": Stored("layers.{layer}.input_layernorm.weight"),
    "layers.mlp_norm": Stored("layers.{layer}.post_attention_layernorm.weight"),
    "layers.query": Stored("layers.{layer}.self_attn.q_proj.weight", transposed=True),
    "layers.key": Stored("layers.{layer}.self_attn.k_proj.weight", transposed=True),
    "layers.value": Stored("layers.{layer}.self_attn.v_proj.weight", transposed=True),
    "layers.output": Stored("layers.{layer}.self_attn.o_proj.weight", transposed=True),
    "layers.query_bias": Stored("layers.{layer}.self_attn.q_proj.bias"),
    "layers.key_bias": Stored("layers.{layer}.self_attn.k_proj.bias"),
    "layers.value_bias": Stored("layers.{layer}.self_attn.v_proj.bias"),
    "layers.output_bias": Stored("layers.{layer}.self_attn.o_proj.bias"),
    "layers.query_norm": Stored("layers.{layer}.self_attn.q_norm.weight"),
    "layers.key_norm": Stored("layers.{layer}.self_attn.k_norm.weight"),
    "layers.gate": Stored("layers.{layer}.mlp.gate_proj.weight", transposed=True),
    "layers.up": Stored("layers.{layer}.mlp.up_proj.weight", transposed=True),
    "layers.down": Stored("layers.{layer}.mlp.down_proj.weight", transposed=True),
    "layers.gate_bias": Stored("layers.{layer}.mlp.gate_proj.bias"),
    "layers.up_bias": Stored("layers.{layer}.mlp.up_proj.bias"),
    "layers.down_bias": Stored("layers.{layer}.mlp.down_proj.bias"),
}


def architecture(fields: Fields, **changes: Any) -> Architecture:
    """A Llama with some attributes changed.

    Args:
        fields: the configuration; problems are noted there.
        changes: attributes of `Architecture`; those that are absent are Llama's.
    """
    width, n_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    n_layers, max_length = fields.size("num_hidden_layers"), fields.size("max_position_embeddings", 2048)
    head_width = changes.pop("head_width", None) or fields.size("head_dim", max(width // n_heads, 1))
    if head_width % 2:
        fields.problems.append(f"expected heads with an even number of channels, got {head_width}")
    n_kv_heads = fields.size("num_key_value_heads", n_heads)
    if n_heads % n_kv_heads:
        fields.problems.append(f"expected num_attention_heads to be a multiple of {n_kv_heads} key-value heads")
    if "rotaries" not in changes:
        changes["rotaries"] = (full_rotary(fields, head_width, max_length),)
    usual: dict[str, Any] = {
        "vocabulary": fields.size("vocab_size"),
        "width": width,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_kv_heads": n_kv_heads,
        "head_width": head_width,
        "mlp_width": fields.size("intermediate_size"),
        "max_length": max([max_length, *(int(r.original_length * r.factor) for r in changes["rotaries"])]),
        "norm": Norm("rms", fields.number("rms_norm_eps", 1e-6, zero=True)),
        "score_scale": (head_width**-0.5,) * n_layers,
        "windows": (None,) * n_layers,
        "rotary_of_layer": (0,) * n_layers,
        "activation": activation(fields, "hidden_act", "silu"),
        "tied": fields.flag("tie_word_embeddings", False),
        "init_scale": fields.number("initializer_range", 0.02, zero=True),
    }
    return Architecture(**usual | changes)


def activation(fields: Fields, name: str, default: str) -> Any:
    """The MLP's activation."""
    return fields.choice(name, default, ACTIVATIONS)


def full_rotary(fields: Fields, head_width: int, max_length: int, theta: float = 10_000.0) -> Any:
    """The rotary form of a model that has one, over all channels of a head."""
    parameters = rotary_parameters(fields)
    found = rotary(fields, parameters, fields.number("rope_theta", theta), head_width, max_length)
    if found.n_channels != head_width:
        fields.problems.append(f"partial_rotary_factor = {parameters.get('partial_rotary_factor')} is not supported")
    return found


def rotary_parameters(fields: Fields) -> dict[str, Any]:
    """`rope_parameters` of transformers 5, or `rope_scaling` of before, with what stands beside them."""
    parameters = joined_rotary_parameters(fields, fields.mapping("rope_parameters"))
    for name in ("partial_rotary_factor", "original_max_position_embeddings"):
        if fields.present(name):
            parameters.setdefault(name, fields.get(name))
    return parameters


def layer_types(fields: Fields, default: list[str]) -> list[str]:
    """The field `layer_types`, one entry a layer."""
    found = fields.listing("layer_types", default, FULL, SLIDING)
    if len(found) != len(default):
        fields.problems.append(f"expected {len(default)} layer_types, got {len(found)}")
        return default
    return found


def windows(fields: Fields, layer_types: Sequence[str], window: int | None) -> tuple[int | None, ...]:
    """The window of each layer, from a list of "full_attention" and "sliding_attention"."""
    if "sliding_attention" in layer_types and not window:
        fields.problems.append("layer_types has 'sliding_attention', but there is no sliding_window")
    return tuple(window if kind == "sliding_attention" else None for kind in layer_types)
