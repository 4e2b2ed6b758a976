"""SmolLM 3: Llama in which every fourth layer has no positions (Bakouch et al. 2025)."""

from llm_bridge.model.architecture import Architecture, Rotary
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like

ARCHITECTURE = "SmolLM3ForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """`no_rope_layers` has a 1 for each layer that does rotate."""
    fields.get("max_window_layers")  # of no layer
    biased = fields.flag("attention_bias", False)
    n_layers, interval = fields.size("num_hidden_layers"), fields.size("no_rope_layer_interval", 4)
    rotated = fields.listing("no_rope_layers", [int((i + 1) % interval != 0) for i in range(n_layers)], 0, 1)
    if len(rotated) < n_layers:
        fields.problems.append(f"expected {n_layers} no_rope_layers, got {len(rotated)}")
        rotated = [1] * n_layers
    window = fields.optional_size("sliding_window")
    slides = fields.flag("use_sliding_window", False) and window is not None
    types = ["sliding_attention" if slides and not rotates else "full_attention" for rotates in rotated[:n_layers]]
    width, n_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    head_width = fields.size("head_dim", max(width // n_heads, 1))
    full = _llama_like.full_rotary(fields, head_width, fields.size("max_position_embeddings", 32_768), theta=2e6)
    return _llama_like.architecture(
        fields,
        head_width=head_width,
        n_kv_heads=fields.size("num_key_value_heads", 4),
        rotaries=(full, Rotary("none", n_channels=head_width)),
        rotary_of_layer=tuple(int(not rotates) for rotates in rotated[:n_layers]),
        windows=_llama_like.windows(fields, _llama_like.layer_types(fields, types), window),
        tied=fields.flag("tie_word_embeddings", True),
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=fields.flag("mlp_bias", False),
    )
