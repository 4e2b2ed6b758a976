"""GPT-2: learned positions, layer norms with biases, a plain MLP (Radford et al. 2019)."""

from llm_bridge.model.architecture import Architecture, Norm
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like
from llm_bridge.model.names import Stored

ARCHITECTURE = "GPT2LMHeadModel"
PREFIX = "transformer."
IGNORED = (r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",)  # the causal mask
_QKV = ("layers.query", "layers.key", "layers.value")
_QKV_BIAS = tuple(f"{name}_bias" for name in _QKV)
TENSORS = {
    "embedding": Stored("wte.weight"),
    "positions": Stored("wpe.weight"),
    "final_norm": Stored("ln_f.weight"),
    "final_norm_bias": Stored("ln_f.bias"),
    "head": Stored("lm_head.weight", transposed=True, prefixed=False),
    "layers.attention_norm": Stored("h.{layer}.ln_1.weight"),
    "layers.attention_norm_bias": Stored("h.{layer}.ln_1.bias"),
    "layers.mlp_norm": Stored("h.{layer}.ln_2.weight"),
    "layers.mlp_norm_bias": Stored("h.{layer}.ln_2.bias"),
    **dict.fromkeys(_QKV, Stored("h.{layer}.attn.c_attn.weight", fused=_QKV)),
    **dict.fromkeys(_QKV_BIAS, Stored("h.{layer}.attn.c_attn.bias", fused=_QKV_BIAS)),
    "layers.output": Stored("h.{layer}.attn.c_proj.weight"),
    "layers.output_bias": Stored("h.{layer}.attn.c_proj.bias"),
    "layers.up": Stored("h.{layer}.mlp.c_fc.weight"),
    "layers.up_bias": Stored("h.{layer}.mlp.c_fc.bias"),
    "layers.down": Stored("h.{layer}.mlp.c_proj.weight"),
    "layers.down_bias": Stored("h.{layer}.mlp.c_proj.bias"),
}


def architecture(fields: Fields) -> Architecture:
    """Linear maps lie as [in, out], as they do here."""
    fields.only("add_cross_attention", False)
    width, n_heads, n_layers = fields.size("n_embd", 768), fields.size("n_head", 12), fields.size("n_layer", 12)
    if width % n_heads:
        fields.problems.append(f"expected n_embd = {width} to be a multiple of n_head = {n_heads}")
    scale = max(width // n_heads, 1) ** -0.5 if fields.flag("scale_attn_weights", True) else 1.0
    by_layer = fields.flag("scale_attn_by_inverse_layer_idx", False)
    return Architecture(
        vocabulary=fields.size("vocab_size", 50_257),
        width=width,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_width=width // n_heads,
        mlp_width=fields.size("n_inner", 4 * width),
        max_length=fields.size("n_positions", 1024),
        norm=Norm("layer", fields.number("layer_norm_epsilon", 1e-5, zero=True)),
        score_scale=tuple(scale / (i + 1 if by_layer else 1) for i in range(n_layers)),
        windows=(None,) * n_layers,
        rotaries=(),
        rotary_of_layer=(0,) * n_layers,
        activation=_llama_like.activation(fields, "activation_function", "gelu_new"),
        gated=False,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied=fields.flag("tie_word_embeddings", True),
        init_scale=fields.number("initializer_range", 0.02, zero=True),
    )
