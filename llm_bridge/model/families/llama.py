"""Llama 1 to 3.x, and the many models that share its code (Touvron et al. 2023, Dubey et al. 2024)."""

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like

ARCHITECTURE = "LlamaForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """Biases of attention and MLP are options."""
    fields.only("rope_interleaved", False)
    biased = fields.flag("attention_bias", False)
    return _llama_like.architecture(
        fields, qkv_bias=biased, output_bias=biased, mlp_bias=fields.flag("mlp_bias", False)
    )
