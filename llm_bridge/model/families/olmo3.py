"""OLMo 3: OLMo 2 with windows in three of four layers, whose rotations are never stretched (OLMo Team 2025)."""

from llm_bridge.model.architecture import Architecture, Rotary
from llm_bridge.model.config import Fields, joined_rotary_parameters, rotary
from llm_bridge.model.families import _llama_like, olmo2
from llm_bridge.model.families.olmo2 import IGNORED, PREFIX, TENSORS

__all__ = ["ARCHITECTURE", "IGNORED", "PREFIX", "TENSORS", "architecture"]

ARCHITECTURE = "Olmo3ForCausalLM"
THETA = 500_000.0


def architecture(fields: Fields) -> Architecture:
    """`rope_scaling` and `rope_theta` are of the full layers, as transformers reads them."""
    n_layers = fields.size("num_hidden_layers")
    types = ["full_attention" if (i + 1) % 4 == 0 else "sliding_attention" for i in range(n_layers)]
    types = _llama_like.layer_types(fields, types)
    return olmo2.architecture(
        fields,
        windows=_llama_like.windows(fields, types, fields.optional_size("sliding_window", 4096)),
        rotaries=_rotaries(fields),
        rotary_of_layer=tuple(int(kind == "sliding_attention") for kind in types),
    )


def _rotaries(fields: Fields) -> tuple[Rotary, ...]:
    """Of full layers, then of layers with a window."""
    max_length, width = fields.size("max_position_embeddings", 2048), fields.size("hidden_size")
    head_width = fields.size("head_dim", max(width // fields.size("num_attention_heads"), 1))
    both = Fields(fields.mapping("rope_parameters"), fields.problems)
    full = joined_rotary_parameters(fields, both.mapping("full_attention"))
    sliding = both.mapping("sliding_attention")
    if rest := both.unread():
        fields.problems.append(f"rope_parameters has {', '.join(map(repr, rest))} beside the two types of layers")
    thetas = fields.number("rope_theta", THETA), THETA
    return tuple(
        rotary(fields, parameters, theta, head_width, max_length)
        for parameters, theta in zip((full, sliding), thetas, strict=True)
    )
