"""Qwen 3: norms of queries and keys by head in place of Qwen 2's biases (Yang et al. 2025)."""

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like
from llm_bridge.model.families.qwen2 import late_windows

ARCHITECTURE = "Qwen3ForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """Heads have 128 channels where the configuration does not say."""
    biased = fields.flag("attention_bias", False)
    return _llama_like.architecture(
        fields,
        head_width=fields.size("head_dim", 128),
        query_key_norm="head",
        qkv_bias=biased,
        output_bias=biased,
        windows=late_windows(fields),
    )
