"""GGUF files: tensors in the order of transformers, the tokenizer's cuts, what ends an answer, what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import llm_bridge as bridge
from llm_bridge.command.cli import main

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIG = SIZES | {"model_type": "llama", "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool>"]  # the last one is no control token
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
MISSING = "reading GGUF needs the package gguf: pip install 'magnetic-mirror[gguf]'"


def alphabet() -> list[str]:
    """The letters of byte-level tokenizers, and the merges' tokens."""
    from tokenizers import pre_tokenizers

    return [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "ab"]


def stored(name: str, tensor: np.ndarray) -> tuple[str, np.ndarray]:
    """A tensor of transformers as llama.cpp's converter writes it: rows of rotated heads with their halves mixed."""
    parts = name.removesuffix(".weight").split(".")
    prefix = f"blk.{parts[2]}." if "layers" in parts else ""
    heads = {"q_proj": CONFIG["num_attention_heads"], "k_proj": CONFIG["num_key_value_heads"]}.get(parts[-1])
    if heads is not None:
        shape = tensor.shape
        tensor = tensor.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
    return f"{prefix}{NAMES[parts[-1]]}.weight", np.ascontiguousarray(tensor)


def written(
    file: Path, tensors: dict[str, np.ndarray], change: Callable[[Any], Any] | None = None, **facts: Any
) -> Path:
    """A GGUF file of these tensors, all as float32 where `change` does not quantise them."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    tokens = SPECIAL + alphabet()
    given: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": CONFIG["num_hidden_layers"],
        "llama.context_length": CONFIG["max_position_embeddings"],
        "llama.embedding_length": CONFIG["hidden_size"],
        "llama.feed_forward_length": CONFIG["intermediate_size"],
        "llama.attention.head_count": CONFIG["num_attention_heads"],
        "llama.attention.head_count_kv": CONFIG["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 2e4,
        "llama.rope.dimension_count": CONFIG["head_dim"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3, 4] + [1] * (len(tokens) - 4),
        "tokenizer.ggml.merges": ["1 2", "a b"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    } | {name.replace("__", "."): value for name, value in facts.items()}
    writer = gguf.GGUFWriter(file, given.pop("general.architecture"))
    add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool}
    for name, value in given.items():
        if value is not None:
            add.get(type(value), writer.add_array)(name, value)
    for name, tensor in tensors.items():
        kind = None if change is None else change(name)
        data = tensor if kind is None else gguf.quantize(tensor, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in the form of transformers."""
    config = CONFIG | {"vocab_size": len(SPECIAL + alphabet()), "rope_theta": 2e4, "rms_norm_eps": 1e-5}
    config |= {"tie_word_embeddings": True}
    return bridge.save(bridge.init(config, jax.random.key(3)), tmp_path_factory.mktemp("model") / "hf")


@pytest.fixture(scope="module")
def tensors(model: Path) -> dict[str, np.ndarray]:
    return dict(stored(name, tensor) for name, tensor in load_file(model / "model.safetensors").items())


def test_a_file_becomes_the_folder_that_it_was_made_from(
    model: Path, tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Bit for bit, rows of queries and keys in order, and the same architecture, so the same log-probabilities."""
    file = written(tmp_path / "small.gguf", tensors)
    assert main(["import", "gguf", str(file), str(tmp_path / "out")]) == 0
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", model))
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    found, given = (bridge.load(folder).architecture for folder in (tmp_path / "out", model))
    assert found == given


def test_the_tokenizer_cuts_digits_and_answers_end_with_both_tokens(
    tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    words = bridge.Tokenizer(bridge.import_gguf(written(tmp_path / "s.gguf", tensors), tmp_path / "smollm"))
    tokens = SPECIAL + alphabet()
    a, one, two, b, joined = (tokens.index(text) for text in ("a", "1", "2", "ab", "12"))
    assert words.prompt("aab12") == [a, b, one, two]
    assert words.encode("ab<tool>1é<|im_end|>")[:2] == [b, 3]
    assert words.decode(words.encode("é <tool> 12")) == "é <tool> 12"
    assert words.prompt([{"role": "user", "content": "ab"}]) == [1, b, 2, 1]
    assert set(words.ends) == {0, 2}
    assert json.loads((tmp_path / "smollm" / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    changed = {"tokenizer__ggml__pre": "gpt-2", "tokenizer__ggml__add_bos_token": True}
    words = bridge.Tokenizer(bridge.import_gguf(written(tmp_path / "g.gguf", tensors, **changed), tmp_path / "gpt"))
    assert words.prompt("aab12") == [1, a, b, joined]


def test_quantised_weights_are_within_half_a_step_of_their_scale(
    tensors: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Q8_0: a block of 32 numbers has steps of its largest one / 127, kept in half precision."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    kind = gguf.GGMLQuantizationType.Q8_0
    file = written(tmp_path / "q.gguf", tensors, lambda name: kind if name.endswith(("ffn_up.weight",)) else None)
    folder = bridge.import_gguf(file, tmp_path / "out")
    found = load_file(folder / "model.safetensors")["model.layers.1.mlp.up_proj.weight"].reshape(-1, 32)
    given = tensors["blk.1.ffn_up.weight"].reshape(-1, 32)
    step = np.abs(given).max(axis=1, keepdims=True) / 127
    assert 0.2 < (np.abs(found - given) / step).max() <= 0.5 + 127 * 2**-11
    half = bridge.import_gguf(file, tmp_path / "half", dtype="bfloat16")
    kinds = {str(tensor.dtype) for tensor in load_file(half / "model.safetensors").values()}
    assert kinds == {"bfloat16"}
    assert bridge.load(half).arrays()["embedding"].dtype == "bfloat16"


def test_the_frequencies_of_llama_3_are_recognised(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    """From the factors of each frequency alone; other factors are refused."""
    turns = 8192 * 5e5 ** -(np.arange(8) / 8) / (2 * np.pi)
    smooth = np.clip((turns - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 32 + smooth)).astype(np.float32)
    assert 1 == factors[3] < factors[4] < factors[5] == 32  # one of them is between the two
    folder = bridge.import_gguf(
        written(tmp_path / "a.gguf", tensors | {"rope_freqs.weight": factors}, llama__rope__freq_base=5e5),
        tmp_path / "three",
    )
    scaling = json.loads((folder / "config.json").read_text())["rope_scaling"]
    assert (scaling["rope_type"], scaling["factor"], scaling["low_freq_factor"]) == ("llama3", 32, 1)
    factors[4] *= 1.01
    file = written(tmp_path / "b.gguf", tensors | {"rope_freqs.weight": factors}, llama__rope__freq_base=5e5)
    with pytest.raises(bridge.BridgeError, match=r"rope_freqs\.weight holds other factors than those of Llama 3"):
        bridge.import_gguf(file, tmp_path / "no")


REFUSED = {
    "of the architecture 'qwen2'": {"general__architecture": "qwen2"},
    "llama.expert_count = 8 is not followed": {"llama__expert_count": 8},
    "rope.scaling.type = yarn is not followed": {"llama__rope__scaling__type": "yarn"},
    "expected llama.block_count to be one integer, got None": {"llama__block_count": None},
    "has no tensor blk.2.ffn_down.weight": {"llama__block_count": 3},
    "the tensor blk.1.ffn_up.weight is not followed": {"llama__block_count": 1},
    "token_embd.weight has the shape (262, 64), expected (300, 64)": {"llama__vocab_size": 300},
    "tokenizer.ggml.model = llama is not followed": {"tokenizer__ggml__model": "llama"},
    "tokenizer.ggml.pre = odd is not followed": {"tokenizer__ggml__pre": "odd"},
    "one of 3 parts; join them first": {"split__count": 3},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_followed_is_refused_in_a_sentence(
    words: str, tensors: dict[str, np.ndarray], tmp_path: Path, capsys: Any
) -> None:
    file = written(tmp_path / "odd.gguf", tensors, **REFUSED[words])
    assert main(["import", "gguf", str(file), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "odd.gguf" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_refused(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.gguf", tensors).read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"hello, world" * 9, "empty": b""}.items():
        (tmp_path / f"{name}.gguf").write_bytes(content)
        with pytest.raises(bridge.BridgeError, match=f"{name}.gguf: no GGUF file, or a damaged one"):
            bridge.import_gguf(tmp_path / f"{name}.gguf", tmp_path / "out")
    with pytest.raises(bridge.BridgeError, match=r"absent\.gguf: cannot be read"):
        bridge.import_gguf(tmp_path / "absent.gguf", tmp_path / "out")
    broken = tensors | {"blk.0.ffn_up.weight": np.full_like(tensors["blk.0.ffn_up.weight"], np.nan)}
    with pytest.raises(bridge.BridgeError, match=r"blk\.0\.ffn_up\.weight has numbers that are not finite in float32"):
        bridge.import_gguf(written(tmp_path / "nan.gguf", broken), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert main(["import", "gguf", "a.gguf", str(tmp_path / "out")]) == 2
    assert MISSING in capsys.readouterr().err
