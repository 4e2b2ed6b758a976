"""Gemma 3, the text part: norms of queries and keys, and a rotary form of their own for layers with a window.

Source: Gemma Team 2025. The field `attn_logit_softcapping` is read by no implementation and must be null.
"""

from typing import Any

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields, joined_rotary_parameters, rotary
from llm_bridge.model.families import _llama_like
from llm_bridge.model.families.gemma2 import PREFIX, TENSORS, gemma

__all__ = ["ARCHITECTURE", "IGNORED", "PREFIX", "PREFIXES", "TENSORS", "architecture"]

ARCHITECTURE = "Gemma3ForCausalLM"
PREFIXES = ("language_model.model.", "model.language_model.", PREFIX)  # the first two in models of more than text
IGNORED = (*_llama_like.IGNORED, r"(model\.)?(vision_tower|multi_modal_projector)\..+")


def architecture(fields: Fields) -> Architecture:
    """Five layers with a window, then one without, unless `layer_types` or `sliding_window_pattern` say otherwise."""
    fields.only("attn_logit_softcapping")
    n_layers, pattern = fields.size("num_hidden_layers"), fields.size("sliding_window_pattern", 6)
    fields.get("_sliding_window_pattern")
    types = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(n_layers)]
    types = _llama_like.layer_types(fields, types)
    return gemma(
        fields,
        windows=_llama_like.windows(fields, types, fields.optional_size("sliding_window", 4096)),
        rotaries=rotaries(fields, fields.size("head_dim", 256)),
        rotary_of_layer=tuple(int(kind == "sliding_attention") for kind in types),
        logit_softcap=fields.optional_number("final_logit_softcapping"),
        query_key_norm="head",
    )


def rotaries(fields: Fields, head_width: int) -> tuple[Any, Any]:
    """Of full layers, then of layers with a window."""
    max_length = fields.size("max_position_embeddings", 131_072)
    both = Fields(fields.mapping("rope_parameters"), fields.problems)
    full = joined_rotary_parameters(fields, both.mapping("full_attention"))
    sliding = both.mapping("sliding_attention")
    if rest := both.unread():
        fields.problems.append(f"rope_parameters has {', '.join(map(repr, rest))} beside the two types of layers")
    thetas = fields.number("rope_theta", 1e6), fields.number("rope_local_base_freq", 1e4)
    full, sliding = (
        rotary(fields, parameters, theta, head_width, max_length)
        for parameters, theta in zip((full, sliding), thetas, strict=True)
    )
    return full, sliding
