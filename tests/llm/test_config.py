"""What a configuration may say, and what is refused: everything at once, before any work."""

import jax
import pytest
import transformers
from flax import nnx

import llm_bridge as bridge
from llm_bridge.checkpoint import architecture_of
from llm_bridge.weights import count
from tests.llm.cases import CASES, FAMILIES, config_of


@pytest.mark.parametrize("family", FAMILIES)
def test_configurations_are_understood_as_transformers_writes_them(family: str) -> None:
    written = transformers.AutoConfig.for_model(family).to_dict()
    architecture = architecture_of(written, family)
    assert architecture.n_layers == written.get("num_hidden_layers", written.get("n_layer"))


@pytest.mark.parametrize("case", CASES)
def test_both_forms_of_a_configuration_say_the_same(case: str) -> None:
    """transformers 5 reads what stands in the file, fills in its defaults, and writes its own form."""
    config = config_of(case)
    rewritten = transformers.AutoConfig.for_model(**config).to_dict()
    assert architecture_of(config, case) == architecture_of(rewritten, case)


ON_THE_HUB = {
    "qwen2": {"use_mrope": False, "sliding_window": 131_072, "max_window_layers": 28, "use_sliding_window": False},
    "phi3": {"lm_head_bias": False, "full_attn_mod": 1, "interpolate_factor": 1, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "smollm3": {"max_window_layers": 28, "pretraining_tp": 2},
    "gemma2": {"hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "attention_dropout": 0.0},
    "gpt2": {"n_ctx": 1024, "summary_type": "cls_index", "task_specific_params": {"text-generation": {}}},
    "llama": {"pretraining_tp": 1, "torch_dtype": "bfloat16", "_name_or_path": "x", "transformers_version": "4.42.3"},
}


@pytest.mark.parametrize("family", ON_THE_HUB)
def test_fields_of_published_checkpoints_that_change_nothing(family: str) -> None:
    published = config_of(family) | ON_THE_HUB[family]
    assert architecture_of(published, family) == architecture_of(config_of(family), family)


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
        ({"model_type": "gemma3"}, "unsupported model_type 'gemma3'"),
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
