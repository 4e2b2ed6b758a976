"""Gemma 2: norms on both sides, soft caps, windows in every other layer (Gemma Team 2024)."""

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like
from llm_bridge.model.names import Stored

ARCHITECTURE = "Gemma2ForCausalLM"
PREFIX, IGNORED = _llama_like.PREFIX, _llama_like.IGNORED
TENSORS = _llama_like.TENSORS | {
    "layers.attention_output_norm": Stored("layers.{layer}.post_attention_layernorm.weight"),
    "layers.mlp_norm": Stored("layers.{layer}.pre_feedforward_layernorm.weight"),
    "layers.mlp_output_norm": Stored("layers.{layer}.post_feedforward_layernorm.weight"),
}


def architecture(fields: Fields) -> Architecture:
    """Soft caps that are null are absent; absent ones are 50 for scores and 30 for logits."""
    types = [("sliding_attention", "full_attention")[i % 2] for i in range(fields.size("num_hidden_layers"))]
    return gemma(
        fields,
        windows=_llama_like.windows(
            fields, _llama_like.layer_types(fields, types), fields.optional_size("sliding_window", 4096)
        ),
        score_softcap=fields.optional_number("attn_logit_softcapping", 50.0),
        logit_softcap=fields.optional_number("final_logit_softcapping", 30.0),
    )


def gemma(fields: Fields, **changes: object) -> Architecture:
    """What Gemma 2 and 3 share."""
    fields.only("use_bidirectional_attention", False)
    biased = fields.flag("attention_bias", False)
    n_layers = fields.size("num_hidden_layers")
    fields.get("hidden_act")  # superseded by the next field
    return _llama_like.architecture(
        fields,
        head_width=fields.size("head_dim", 256),
        n_kv_heads=fields.size("num_key_value_heads", 4),
        norm=Norm("rms_plus_one", fields.number("rms_norm_eps", 1e-6, zero=True)),
        norm_after=True,
        activation=_llama_like.activation(fields, "hidden_activation", "gelu_pytorch_tanh"),
        embedding_scale=fields.size("hidden_size") ** 0.5,
        score_scale=(fields.number("query_pre_attn_scalar", 256.0) ** -0.5,) * n_layers,
        qkv_bias=biased,
        output_bias=biased,
        tied=fields.flag("tie_word_embeddings", True),
        **changes,
    )
