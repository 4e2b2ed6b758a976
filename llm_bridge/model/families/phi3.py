"""Phi 3 and 4: Llama with fused projections, partial rotations and LongRoPE (Abdin et al. 2024)."""

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields, rotary
from llm_bridge.model.families import _llama_like
from llm_bridge.model.names import Stored

ARCHITECTURE = "Phi3ForCausalLM"
PREFIX, IGNORED = _llama_like.PREFIX, _llama_like.IGNORED
_QKV = Stored(
    "layers.{layer}.self_attn.qkv_proj.weight", transposed=True, fused=("layers.query", "layers.key", "layers.value")
)
_GATE_UP = Stored("layers.{layer}.mlp.gate_up_proj.weight", transposed=True, fused=("layers.gate", "layers.up"))
TENSORS = _llama_like.TENSORS | dict.fromkeys(_QKV.fused, _QKV) | dict.fromkeys(_GATE_UP.fused, _GATE_UP)


def architecture(fields: Fields) -> Architecture:
    """Rope types other than default and longrope are read as longrope, as transformers does."""
    for bias in ("attention_bias", "mlp_bias", "lm_head_bias"):
        fields.only(bias, False)
    for unused in ("full_attn_mod", "interpolate_factor"):
        fields.only(unused, 1)
    width, n_heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    head_width, max_length = max(width // n_heads, 1), fields.size("max_position_embeddings", 4096)
    original = fields.size("original_max_position_embeddings", 4096)
    parameters = _llama_like.rotary_parameters(fields) | {"original_max_position_embeddings": original}
    for key in ("rope_type", "type"):
        if parameters.get(key) == "yarn":
            parameters[key] = "longrope"
    theta = fields.number("rope_theta", 1e4)
    return _llama_like.architecture(
        fields,
        head_width=head_width,
        norm=Norm("rms", fields.number("rms_norm_eps", 1e-5, zero=True)),
        rotaries=(rotary(fields, parameters, theta, head_width, max_length),),
        windows=(fields.optional_size("sliding_window"),) * fields.size("num_hidden_layers"),
    )
