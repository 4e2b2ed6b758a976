"""Tiny checkpoints of every family, described so that they can be made anywhere: a configuration and a seed.

`CASES` holds configurations as a `config.json` has them, in the forms of transformers 4 and 5. Weights are drawn from
the tensor's name, so neither torch nor files are needed to have the same ones.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SEED = 20_250_131
LENGTHS = (40, 33, 12)  # tokens of the rows that are scored
N_PROMPTS, N_NEW = 50, 16

SMALL = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
BASE = SMALL | {"num_key_value_heads": 2, "vocab_size": 101, "max_position_embeddings": 64}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GEMMA = BASE | {"query_pre_attn_scalar": 20, "head_dim": 16, "sliding_window": 8}
MOE = BASE | {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 12}
NEOX = {name: size for name, size in BASE.items() if name != "num_key_value_heads"}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
GPT2 = {"n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 64, "vocab_size": 101}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONG = {"type": "longrope", "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4], "long_factor": [1, 1.5, 2, 3, 4, 6]}
S, F = "sliding_attention", "full_attention"

CASES: dict[str, dict[str, Any]] = {
    "llama": BASE | {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    "llama_untied_multi_head": BASE | {"rope_theta": 1e4, "num_key_value_heads": 4},
    "llama_tied_head_dim": BASE | {"rope_theta": 3e5, "head_dim": 20, "tie_word_embeddings": True},
    "llama_linear": BASE | {"rope_theta": 2e4, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama_dynamic": BASE
    | {"rope_theta": 2e4, "rope_scaling": {"type": "dynamic", "factor": 3.0}, "max_position_embeddings": 20},
    "llama_llama3": BASE | {"rope_theta": 5e5, "rope_scaling": LLAMA3},
    "llama_yarn": BASE | {"rope_parameters": YARN | {"rope_theta": 1e4}},
    "llama_yarn_mscale": BASE
    | {"rope_parameters": YARN | {"rope_theta": 1e4, "mscale": 0.7, "mscale_all_dim": 1.1, "beta_fast": 8}},
    "llama_yarn_untruncated": BASE
    | {"rope_parameters": YARN | {"rope_theta": 3e4, "truncate": False, "attention_factor": 1.3}},
    "llama_biases": BASE | {"rope_theta": 5e5, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    "mistral": BASE | {"rope_theta": 1e4, "sliding_window": 8},
    "mistral_full": BASE | {"rope_theta": 1e6, "sliding_window": None, "head_dim": 16, "vocab_size": 128},
    "qwen2": BASE | {"rope_theta": 1e6, "tie_word_embeddings": True},
    "qwen2_late_windows": BASE
    | {"rope_theta": 1e6, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen2_layer_types": BASE
    | {"rope_theta": 1e6, "use_sliding_window": True, "sliding_window": 5, "layer_types": [S, F, S]},
    "qwen2_yarn": BASE | {"rope_theta": 1e6, "rope_scaling": YARN},
    "qwen3": BASE | {"rope_theta": 1e6, "head_dim": 16},
    "qwen3_tied_bias": BASE | {"rope_theta": 1e6, "head_dim": 8, "tie_word_embeddings": True, "attention_bias": True},
    "qwen3_layer_types": BASE
    | {"head_dim": 16, "rope_theta": 2e5, "use_sliding_window": True, "sliding_window": 7, "layer_types": [F, S, F]},
    "gemma2": GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma2_no_caps": GEMMA | {"attn_logit_softcapping": None, "final_logit_softcapping": None, "rope_theta": 5e4},
    "gemma2_layer_types": GEMMA | {"layer_types": [F, F, S], "num_key_value_heads": 4, "vocab_size": 97},
    "gemma3_text": GEMMA | {"num_hidden_layers": 4, "sliding_window_pattern": 2, "rope_theta": 1e6},
    "gemma3_text_linear": GEMMA
    | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 2e4, "rope_theta": 1e6},
    "gemma3_text_layer_types": GEMMA
    | {
        "layer_types": [S, F, S],
        "final_logit_softcapping": 4.0,
        "rope_parameters": {S: {"rope_type": "default", "rope_theta": 1e4}, F: LLAMA3 | {"rope_theta": 3e5}},
    },
    "gpt2": GPT2,
    "gpt2_scaled": GPT2 | {"scale_attn_by_inverse_layer_idx": True, "n_inner": 64, "activation_function": "gelu"},
    "gpt2_untied": GPT2 | {"tie_word_embeddings": False, "scale_attn_weights": False, "activation_function": "relu"},
    "phi3": BASE | {"rope_theta": 1e4},
    "phi3_partial_window": BASE | {"rope_theta": 3e4, "partial_rotary_factor": 0.5, "sliding_window": 9},
    "phi3_longrope": BASE | {"rope_theta": 1e4, "rope_scaling": LONG, "original_max_position_embeddings": 24},
    "olmo2": BASE | {"rope_theta": 5e5},
    "olmo2_multi_head": BASE | {"rope_theta": 5e5, "num_key_value_heads": 4, "attention_bias": True},
    "smollm3": BASE | {"num_hidden_layers": 4, "rope_theta": 5e6},
    "smollm3_windows": BASE
    | {
        "no_rope_layers": [1, 0, 1],
        "use_sliding_window": True,
        "sliding_window": 6,
        "rope_theta": 2e5,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "olmo3": BASE | {"num_hidden_layers": 4, "sliding_window": 6, "rope_theta": 2e4},
    "olmo3_yarn": BASE
    | {
        "layer_types": [F, S, F],
        "sliding_window": 9,
        "attention_bias": True,
        "rope_parameters": {S: {"rope_type": "default", "rope_theta": 3e4}, F: YARN | {"rope_theta": 5e4}},
    },
    "granite": BASE
    | {
        "rope_theta": 1e4,
        "embedding_multiplier": 3.0,
        "attention_multiplier": 0.2,
        "residual_multiplier": 0.6,
        "logits_scaling": 1.7,
        "tie_word_embeddings": True,
    },
    "granite_biases": BASE | {"rope_theta": 5e5, "attention_bias": True, "mlp_bias": True, "logits_scaling": 2.0},
    "gpt_neox": NEOX | {"rotary_pct": 0.5, "rotary_emb_base": 20_000},
    "gpt_neox_in_turn": NEOX
    | {
        "use_parallel_residual": False,
        "attention_bias": False,
        "tie_word_embeddings": True,
        "hidden_act": "gelu_fast",
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4, "partial_rotary_factor": 1.0},
    },
    "gemma3": {"text_config": GEMMA | {"rope_theta": 3e5, "model_type": "gemma3_text"}, "vision_config": VISION},
    "qwen3_moe": MOE | {"rope_theta": 1e6, "norm_topk_prob": True},
    "qwen3_moe_unnormalized": MOE | {"rope_theta": 1e6, "num_experts_per_tok": 3, "attention_bias": True},
}
FAMILIES = (
    "gemma3_text",
    "qwen3_moe",
    "gpt_neox",
    "granite",
    "gemma3",
    "olmo3",
    "smollm3",
    "mistral",
    "gemma2",
    "llama",
    "olmo2",
    "qwen2",
    "qwen3",
    "gpt2",
    "phi3",
)


def family_of(case: str) -> str:
    return next(family for family in FAMILIES if case == family or case.startswith(f"{family}_"))


def config_of(case: str) -> dict[str, Any]:
    """What the case's `config.json` holds."""
    return {"model_type": family_of(case)} | SPECIAL | CASES[case]


def tensor(name: str, shape: tuple[int, ...], norm: float = 1.0) -> np.ndarray:
    """A tensor's values, from its name: large enough for far from uniform predictions.

    Args:
        name: of the tensor.
        shape: of the tensor.
        norm: about which the scales of norms lie; 0 where the model adds 1.
    """
    values = np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape)
    if len(shape) > 1:
        values *= 0.25 if "emb" in name or "wte" in name or "wpe" in name else 0.18
    elif "bias" in name:
        values *= 0.1
    else:
        values = norm + 0.3 * values
    return values.astype(np.float32)


def write(folder: Path, case: str, shapes: dict[str, tuple[int, ...]]) -> Path:
    """The case's checkpoint: `config.json` and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_of(case), indent=1))
    norm = 0.0 if "gemma" in case else 1.0
    save_file({n: tensor(n, tuple(s), norm) for n, s in shapes.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def rows(case: str) -> list[np.ndarray]:
    """The token sequences that are scored."""
    rng = np.random.default_rng([SEED, zlib.crc32(case.encode()), 1])
    return [rng.integers(3, vocabulary(case), length) for length in LENGTHS]


def vocabulary(case: str) -> int:
    return CASES[case].get("text_config", CASES[case])["vocab_size"]


def prompts(family: str) -> list[np.ndarray]:
    """The prompts that are continued greedily, 1 to 20 tokens."""
    rng = np.random.default_rng([SEED, zlib.crc32(family.encode()), 2])
    return [rng.integers(3, vocabulary(family), rng.integers(1, 21)) for _ in range(N_PROMPTS)]
