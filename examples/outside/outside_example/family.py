"""A model family: Gemma, the first one (Gemma Team 2024). A family is a module with these five names.

It is a Llama whose norms scale by 1 + weight, whose embedded tokens are scaled by sqrt(width), whose MLP has the tanh
form of GELU, and whose embedding is the head as well.
"""

from dataclasses import replace
from typing import Any

import llm_bridge as bridge

LLAMA = bridge.families.load("llama")
ARCHITECTURE = "GemmaForCausalLM"  # what transformers calls it
PREFIX, IGNORED, TENSORS = LLAMA.PREFIX, LLAMA.IGNORED, LLAMA.TENSORS  # how its weights are called in files


def architecture(fields: Any) -> bridge.Architecture:
    """What a configuration describes.

    Args:
        fields: of `config.json`: `flag`, `size`, `number` read one, `only` says which values can be followed. What
            nobody reads is refused.
    """
    found = LLAMA.architecture(fields)
    fields.only("hidden_act", "gelu", "gelu_pytorch_tanh")  # both mean the tanh form
    fields.only("hidden_activation", "gelu_pytorch_tanh")
    return replace(
        found,
        norm=bridge.Norm("rms_plus_one", found.norm.epsilon),
        activation="gelu_tanh",
        embedding_scale=found.width**0.5,
        tied=fields.flag("tie_word_embeddings", True),
    )
