"""OLMo 2: norms of outputs instead of inputs, and of all queries and keys at once (OLMo Team 2025)."""

from typing import Any

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like
from llm_bridge.model.names import Stored

ARCHITECTURE = "Olmo2ForCausalLM"
PREFIX, IGNORED = _llama_like.PREFIX, _llama_like.IGNORED
TENSORS = _llama_like.TENSORS | {
    "layers.attention_output_norm": Stored("layers.{layer}.post_attention_layernorm.weight"),
    "layers.mlp_output_norm": Stored("layers.{layer}.post_feedforward_layernorm.weight"),
}


def architecture(fields: Fields, **changes: Any) -> Architecture:
    """As above, with some attributes changed."""
    biased = fields.flag("attention_bias", False)
    return _llama_like.architecture(
        fields,
        norm=Norm("rms_float32", fields.number("rms_norm_eps", 1e-5, zero=True)),
        norm_before=False,
        norm_after=True,
        query_key_norm="whole",
        qkv_bias=biased,
        output_bias=biased,
        **changes,
    )
