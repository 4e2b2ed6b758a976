"""Mistral 7B and its successors: Llama with one window for all layers (Jiang et al. 2023)."""

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like

ARCHITECTURE = "MistralForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """`sliding_window` null is no window; absent it is 4096."""
    window = fields.optional_size("sliding_window", 4096)
    n_layers = fields.size("num_hidden_layers")
    return _llama_like.architecture(
        fields, windows=(window,) * n_layers, n_kv_heads=fields.size("num_key_value_heads", 8)
    )
