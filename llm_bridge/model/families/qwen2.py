"""Qwen 2 and 2.5: Llama with biases of queries, keys and values, and windows in late layers (Yang et al. 2024)."""

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like

ARCHITECTURE = "Qwen2ForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """As above."""
    fields.only("use_mrope", False)
    return _llama_like.architecture(fields, qkv_bias=True, windows=late_windows(fields))


def late_windows(fields: Fields) -> tuple[int | None, ...]:
    """`layer_types`, or a window from layer `max_window_layers` on; none unless `use_sliding_window`."""
    window = used_window(fields)
    n_layers, first = fields.size("num_hidden_layers"), fields.size("max_window_layers", 28, zero=True)
    late = ["sliding_attention" if window and i >= first else "full_attention" for i in range(n_layers)]
    return _llama_like.windows(fields, _llama_like.layer_types(fields, late), window)


def used_window(fields: Fields) -> int | None:
    """`sliding_window` if it is used; what it says is no matter otherwise."""
    fields.get("sliding_window")
    return fields.optional_size("sliding_window", 4096) if fields.flag("use_sliding_window", False) else None
