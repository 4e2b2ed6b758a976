"""Granite 3 and 4: Llama whose embeddings, scores, residual branches and logits have factors (IBM, 2024)."""

from llm_bridge.model.architecture import Architecture
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like

ARCHITECTURE = "GraniteForCausalLM"
PREFIX, IGNORED, TENSORS = _llama_like.PREFIX, _llama_like.IGNORED, _llama_like.TENSORS


def architecture(fields: Fields) -> Architecture:
    """Factors are 1 where they are absent, that of the scores as well."""
    biased, n_layers = fields.flag("attention_bias", False), fields.size("num_hidden_layers")
    return _llama_like.architecture(
        fields,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=fields.flag("mlp_bias", False),
        embedding_scale=fields.number("embedding_multiplier", 1.0),
        score_scale=(fields.number("attention_multiplier", 1.0),) * n_layers,
        residual_scale=fields.number("residual_multiplier", 1.0),
        logit_scale=1 / fields.number("logits_scaling", 1.0),
    )
