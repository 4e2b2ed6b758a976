"""Qwen 3 with a mixture of experts in place of every MLP (Yang et al. 2025)."""

from llm_bridge.model.architecture import Architecture, Experts
from llm_bridge.model.config import Fields
from llm_bridge.model.families import _llama_like
from llm_bridge.model.families.qwen2 import used_window
from llm_bridge.model.names import Stored

ARCHITECTURE = "Qwen3MoeForCausalLM"
PREFIX, IGNORED = _llama_like.PREFIX, _llama_like.IGNORED
TENSORS = _llama_like.TENSORS | {
    "layers.router": Stored("layers.{layer}.mlp.gate.weight", transposed=True),
    "layers.gate": Stored("layers.{layer}.mlp.experts.{expert}.gate_proj.weight", transposed=True),
    "layers.up": Stored("layers.{layer}.mlp.experts.{expert}.up_proj.weight", transposed=True),
    "layers.down": Stored("layers.{layer}.mlp.experts.{expert}.down_proj.weight", transposed=True),
}


def architecture(fields: Fields) -> Architecture:
    """Layers with a plain MLP among the others are not supported; windows concern all layers or none."""
    biased = fields.flag("attention_bias", False)
    fields.only("mlp_only_layers", [])
    fields.only("decoder_sparse_step", 1)
    for unused in ("intermediate_size", "max_window_layers"):  # of plain MLPs; of no layer
        fields.get(unused)
    n_layers = fields.size("num_hidden_layers")
    window = used_window(fields)
    n_experts = "num_experts" if fields.present("num_experts") else "num_local_experts"
    experts = Experts(
        n=fields.size(n_experts, 128),
        n_chosen=fields.size("num_experts_per_tok", 8),
        width=fields.size("moe_intermediate_size", 768),
        normalized=fields.flag("norm_topk_prob", False),
    )
    if experts.n_chosen > experts.n:
        fields.problems.append(f"expected num_experts_per_tok <= {experts.n} experts, got {experts.n_chosen}")
    return _llama_like.architecture(
        fields,
        n_kv_heads=fields.size("num_key_value_heads", 4),
        query_key_norm="head",
        qkv_bias=biased,
        output_bias=biased,
        windows=(window,) * n_layers,
        mlp_width=experts.width,
        experts=experts,
    )
