"""What a configuration may say, and what is refused: everything at once, before any work."""

import jax
import pytest
import transformers
from flax import nnx

import llm_bridge as bridge
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.model.weights import count
from tests.llm.cases import CASES, FAMILIES, LLAMA3, LONG, F, S, config_of


@pytest.mark.parametrize("family", FAMILIES)
def test_configurations_are_understood_as_transformers_writes_them(family: str) -> None:
    written = transformers.AutoConfig.for_model(family).to_dict()
    architecture = architecture_of(written, family)
    of_text = written.get("text_config", written)
    assert architecture.n_layers == of_text.get("num_hidden_layers", of_text.get("n_layer"))


@pytest.mark.parametrize("case", CASES)
def test_both_forms_of_a_configuration_say_the_same(case: str) -> None:
    """transformers 5 reads what stands in the file, fills in its defaults, and writes its own form."""
    config = config_of(case)
    rewritten = transformers.AutoConfig.for_model(**config).to_dict()
    assert architecture_of(config, case) == architecture_of(rewritten, case)


SMOLLM2 = {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}}
ON_THE_HUB = {
    "qwen2": {"use_mrope": False, "sliding_window": 131_072, "max_window_layers": 28, "use_sliding_window": False},
    "phi3": {"lm_head_bias": False, "full_attn_mod": 1, "interpolate_factor": 1, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "smollm3": {"max_window_layers": 28, "pretraining_tp": 2},
    "gemma2": {
        "sliding_window_size": 8,
        "hidden_act": "gelu_pytorch_tanh",
        "cache_implementation": "hybrid",
        "attention_dropout": 0.0,
    },
    "gpt2": {"n_ctx": 1024, "summary_type": "cls_index", "task_specific_params": {"text-generation": {}}},
    "qwen3": {"use_sliding_window": False, "sliding_window": 4, "layer_types": [F, F, F], "max_window_layers": 0},
    "qwen3_moe": {"layer_types": [F, F, F]},
    "olmo2": {"pad_token_id": -1, "eos_token_id": [2, 101], "max_sequence_length": 2048, "activation": "silu"}
    | {"hidden_act": "silu"},
    "llama": SMOLLM2
    | {"pretraining_tp": 1, "torch_dtype": "bfloat16", "_name_or_path": "x", "transformers_version": "4.42.3"},
}


@pytest.mark.parametrize("family", ON_THE_HUB)
def test_fields_of_published_checkpoints_that_change_nothing(family: str) -> None:
    published = config_of(family) | ON_THE_HUB[family]
    assert architecture_of(published, family) == architecture_of(config_of(family), family)


OF_TRAINING = (
    *("attention_dropout", "attention_probs_dropout_prob", "ffn_dropout", "layerdrop", "drop_path_rate"),
    *("classifier_dropout", "classifier_bias", "router_jitter_noise", "router_z_loss_coef", "aux_loss_alpha"),
    *("label_smoothing", "loss_type", "neftune_noise_alpha", "init_std", "learning_rate", "train_batch_size", "seed"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "use_flash_attention_2", "_flash_attn_2_enabled"),
    *("use_fused_cross_entropy", "fuse_norm", "torch_dtype", "use_cache", "pretraining_tp", "is_decoder", "license"),
    *("model_max_length", "max_new_tokens", "tie_encoder_decoder", "id2label", "problem_type"),
)
OF_THE_MODEL = (
    *("attention_sinks", "logit_scale", "logits_scaling", "residual_multiplier", "embedding_multiplier", "clip_qkv"),
    *("use_parallel_residual", "qk_layernorm", "alibi", "scale_emb", "scale_depth", "quantization_config", "mrope"),
    *("attn_temperature_tuning", "floor_scale", "norm_type", "fused_qkv", "text_config", "mlp_only_layers"),
)


def test_a_field_of_training_stops_no_load_and_one_of_the_model_does() -> None:
    config = config_of("llama")
    full = {"pruned_heads": {}, "add_cross_attention": False, "cross_attention_hidden_size": None}
    assert architecture_of(config | dict.fromkeys(OF_TRAINING, 3) | full, "here") == architecture_of(config, "here")
    with pytest.raises(bridge.BridgeError) as caught:
        architecture_of(config | dict.fromkeys(OF_THE_MODEL, 3), "here")
    listed = str(caught.value)
    assert all(f"{name} = 3 is unknown" in listed for name in OF_THE_MODEL)
    for changed in ({"pruned_heads": {"0": [1]}}, {"add_cross_attention": True}, {"is_causal": False}):
        with pytest.raises(bridge.BridgeError, match="is unknown and could change the model"):
            architecture_of(config | changed, "here")


def test_all_reasons_are_given_at_once() -> None:
    config = config_of("gemma2") | {
        "use_bidirectional_attention": True,
        "rope_scaling": {"rope_type": "spiral", "factor": 2.0},
        "hidden_activation": "softsign",
        "attention_sinks": 4,
        "quantization_config": {"bits": 4},
        "num_hidden_layers": "three",
    }
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.init(config, jax.random.key(0))
    for word in ("bidirectional", "spiral", "softsign", "attention_sinks", "quantization", "num_hidden"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_of_a_checkpoint_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A family that is known here does without it; one that is not is refused."""
    code = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    assert architecture_of(config_of("llama") | code, "here") == architecture_of(config_of("llama"), "here")
    assert [record.getMessage() for record in caplog.records] == [
        "here: auto_map names code of the checkpoint, which is not run"
    ]
    with pytest.raises(bridge.BridgeError, match=r"unsupported model_type 'mine'.*\(auto_map\) is never run"):
        bridge.init({"model_type": "mine"} | code, jax.random.key(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"model_type": "gemma"}, "unsupported model_type 'gemma': supported are gemma2, "),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": {}},
            "its language model .model_type 'llama'. stands in text_config .* cannot be loaded, nor can a part",
        ),
        ({"model_type": "gemma3", "text_config": {}}, "hidden_size = 48 is unknown and could change the model"),
        ({"model_type": "mixtral"}, "unsupported model_type 'mixtral': supported are gemma2, "),
        ({"rope_interleaved": True}, "rope_interleaved = True"),
        ({"activation": "relu"}, r"activation = relu .*\(remove from config.json what does not change"),
        ({"rope_theta": 0, "rope_parameters": None}, "rope_theta to be a number > 0, got 0"),
        ({"rope_theta": float("nan"), "rope_parameters": None}, "rope_theta to be a number > 0, got nan"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps to be a number >= 0"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings to be true or false, got 'false'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2}}, "factor to be a number > 0, got -2"),
        ({"rope_scaling": "linear"}, "rope_scaling to be an object"),
        ({"rope_scaling": {"type": "linear", "factor": 2}, "rope_theta": 1e4}, "contradict each other: rope_type"),
        ({"rope_parameters": {"partial_rotary_factor": 0}}, "partial_rotary_factor to be a number > 0"),
        ({"rope_parameters": {"partial_rotary_factor": 0.6}}, "rotates 7 of 12 channels, expected an even number"),
        ({"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0}}, "low_freq_factor < high_freq_factor, got 4.0 and 4.0"),
        (
            {"rope_parameters": LONG | {"long_factor": [1.0] * 5}},
            "long_factor to be a list of 6 numbers > 0.*5 entries",
        ),
        ({"rope_parameters": LONG | {"long_factor": [0] * 6}}, "long_factor to be a list of 6 numbers > 0"),
        ({"model_type": "mistral", "sliding_window": 0}, "sliding_window to be a positive integer, got 0"),
        ({"model_type": "smollm3", "no_rope_layers": "1, 0, 1"}, "no_rope_layers = '1, 0, 1' .*list of 0 and 1"),
        ({"model_type": "qwen3", "sliding_window": 8, "layer_types": [S, F, F]}, "there is no sliding_window"),
        ({"model_type": "gemma2", "final_logit_softcapping": 0}, "final_logit_softcapping to be a number > 0"),
        ({"model_type": "gemma2", "query_pre_attn_scalar": -1}, "query_pre_attn_scalar to be a number > 0"),
        ({"model_type": "qwen3_moe", "num_experts": 2, "num_experts_per_tok": 3}, "num_experts_per_tok <= 2 experts"),
        ({"pad_token_id": "0"}, "pad_token_id to be an integer or null, got '0'"),
        ({"eos_token_id": [2, None]}, "eos_token_id to be an integer, a list of integers or null"),
        ({"bos_token_id": 1.0}, "bos_token_id to be an integer or null, got 1.0"),
        ({"num_key_value_heads": 3}, "multiple of 3 key-value heads"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "needs low_freq_factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0, "twist": 1}}, "twist"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"head_dim": 7}, "even number of channels"),
    ],
)
def test_what_a_configuration_cannot_say(changes: dict[str, object], words: str) -> None:
    with pytest.raises(bridge.BridgeError, match=words):
        bridge.init(config_of("llama") | changes, jax.random.key(0))


def test_two_forms_of_the_rotary_parameters_are_joined() -> None:
    """One has what the other leaves out."""
    config = config_of("llama_linear") | {"rope_theta": None}
    both = config | {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2e4}}
    assert architecture_of(both, "here") == architecture_of(config_of("llama_linear"), "here")


def test_special_tokens_beyond_the_vocabulary_stand_for_none() -> None:
    config = config_of("llama") | {"pad_token_id": 101, "eos_token_id": [-1, 2, 101]}
    origin = nnx.eval_shape(lambda key: bridge.init(config, key), jax.random.key(0)).origin
    assert (origin.pad_token, origin.stop_tokens) == (0, (2,))


def test_a_plan_of_a_large_model_takes_no_memory() -> None:
    """Llama 3.1 8B has 8,030,261,248 parameters (Dubey et al. 2024); nothing is allocated to count them."""
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "rope_theta": 500_000.0,
    }
    policy = nnx.eval_shape(lambda key: bridge.init(config, key, dtype="bfloat16"), jax.random.key(0))
    leaves = jax.tree.leaves(nnx.state(policy, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == count(policy.architecture) == 8_030_261_248
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) and leaf.dtype == "bfloat16" for leaf in leaves)
