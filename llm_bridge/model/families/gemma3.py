"""Gemma 3 with images: its text part, which is a `gemma3_text`, and is saved as one.

The part is in `text_config`, whose absent fields have other defaults than those of a text model's `config.json`. What
reads images is left out, and so are the tensors of it.
"""

from collections.abc import Mapping
from typing import Any

from llm_bridge.model.config import Fields
from llm_bridge.model.families.gemma3_text import ARCHITECTURE, IGNORED, PREFIX, PREFIXES, TENSORS, architecture

__all__ = ["ARCHITECTURE", "IGNORED", "PREFIX", "PREFIXES", "TENSORS", "architecture", "text_config"]

DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
OF_IMAGES = ("vision_config", "mm_tokens_per_image", "boi_token_index", "eoi_token_index", "image_token_index")
OF_BOTH = ("bos_token_id", "eos_token_id", "pad_token_id", "torch_dtype", "dtype", "tie_word_embeddings")


def text_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The `config.json` of the text part alone.

    Args:
        config: of the whole.
        where: what it is called in messages.

    Raises:
        BridgeError: a field stands beside the parts that could change the text part.
    """
    fields = Fields(config)
    inner = fields.mapping("text_config")
    for name in OF_IMAGES:
        fields.get(name)
    both = {name: fields.get(name) for name in OF_BOTH if fields.present(name)}
    fields.finish(where)
    kind = {"model_type": "gemma3_text", "architectures": [ARCHITECTURE]}
    told = {name: value for name, value in inner.items() if value is not None or name not in DEFAULTS}
    return DEFAULTS | told | both | kind
