"""GPT-NeoX, and with it Pythia: attention and MLP side by side, rotations of some channels (Black et al. 2022)."""

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields, rotary
from llm_bridge.model.families import _llama_like
from llm_bridge.model.names import Stored

ARCHITECTURE = "GPTNeoXForCausalLM"
PREFIX = "gpt_neox."
IGNORED = (
    r"(gpt_neox\.)?layers\.\d+\.attention\.(masked_)?bias",  # the causal mask
    r"(gpt_neox\.)?layers\.\d+\.attention\.rotary_emb\.inv_freq",
)
_QKV = ("layers.query", "layers.key", "layers.value")
_QKV_BIAS = tuple(f"{name}_bias" for name in _QKV)
_LAYER = "layers.{layer}."
TENSORS = {
    "embedding": Stored("embed_in.weight"),
    "final_norm": Stored("final_layer_norm.weight"),
    "final_norm_bias": Stored("final_layer_norm.bias"),
    "head": Stored("embed_out.weight", transposed=True, prefixed=False),
    "layers.attention_norm": Stored(f"{_LAYER}input_layernorm.weight"),
    "layers.attention_norm_bias": Stored(f"{_LAYER}input_layernorm.bias"),
    "layers.mlp_norm": Stored(f"{_LAYER}post_attention_layernorm.weight"),
    "layers.mlp_norm_bias": Stored(f"{_LAYER}post_attention_layernorm.bias"),
    **dict.fromkeys(
        _QKV, Stored(f"{_LAYER}attention.query_key_value.weight", transposed=True, fused=_QKV, by_head=True)
    ),
    **dict.fromkeys(_QKV_BIAS, Stored(f"{_LAYER}attention.query_key_value.bias", fused=_QKV_BIAS, by_head=True)),
    "layers.output": Stored(f"{_LAYER}attention.dense.weight", transposed=True),
    "layers.output_bias": Stored(f"{_LAYER}attention.dense.bias"),
    "layers.up": Stored(f"{_LAYER}mlp.dense_h_to_4h.weight", transposed=True),
    "layers.up_bias": Stored(f"{_LAYER}mlp.dense_h_to_4h.bias"),
    "layers.down": Stored(f"{_LAYER}mlp.dense_4h_to_h.weight", transposed=True),
    "layers.down_bias": Stored(f"{_LAYER}mlp.dense_4h_to_h.bias"),
}


def architecture(fields: Fields) -> Architecture:
    """A quarter of a head's channels is rotated unless `rotary_pct` or `partial_rotary_factor` say otherwise."""
    width, n_heads, n_layers = (
        fields.size("hidden_size"),
        fields.size("num_attention_heads"),
        fields.size("num_hidden_layers"),
    )
    if width % n_heads:
        fields.problems.append(f"expected hidden_size = {width} to be a multiple of num_attention_heads = {n_heads}")
    head_width, max_length = max(width // n_heads, 1), fields.size("max_position_embeddings", 2048)
    parameters = _llama_like.rotary_parameters(fields)
    parameters.setdefault("partial_rotary_factor", fields.number("rotary_pct", 0.25))
    theta = fields.number("rotary_emb_base", fields.number("rope_theta", 10_000.0))
    biased = fields.flag("attention_bias", True)
    return _llama_like.architecture(
        fields,
        head_width=head_width,
        n_kv_heads=n_heads,
        max_length=max_length,
        norm=Norm("layer", fields.number("layer_norm_eps", 1e-5, zero=True)),
        rotaries=(rotary(fields, parameters, theta, head_width, max_length),),
        activation=_llama_like.activation(fields, "hidden_act", "gelu"),
        parallel=fields.flag("use_parallel_residual", True),
        gated=False,
        qkv_bias=biased,
        output_bias=biased,
        mlp_bias=True,
        score_scale=(head_width**-0.5,) * n_layers,
    )
