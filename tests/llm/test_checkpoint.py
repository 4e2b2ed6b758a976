"""Folders are read and written bit for bit, as transformers writes them, or refused with every reason."""

import gc
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import GenerationConfig

import llm_bridge as bridge
from llm_bridge.checkpoint import loading
from llm_bridge.model import names
from llm_bridge.train.baselines.sft import SFT
from tests.llm.cases import FAMILIES, rows
from tests.llm.checkpoints import folder_of, padded, shapes
from tests.llm.games import SIZES
from tests.llm.test_templates import published

TOKENIZER_FILES = {
    "tokenizer.json": b'{"odd":   "spacing"}\n',
    "tokenizer_config.json": b'{"a": 1}',
    "chat_template.jinja": b"{{ messages }}\r\n",
    "generation_config.json": b'{"eos_token_id": [2, 7]}',
    "merges.txt": b"a b\n",
}


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own to damage."""
    return Path(shutil.copytree(folder_of(root, "llama_tied_head_dim"), tmp_path / "model"))


def test_pieces_read_one_by_one_are_what_is_read_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = bridge.load(folder_of(root, "qwen3_moe"))
    monkeypatch.setattr(loading, "SMALL_BYTES", 0)
    one_by_one = bridge.load(folder_of(root, "qwen3_moe"))
    for name, array in at_once.arrays().items():
        np.testing.assert_array_equal(array, one_by_one.arrays()[name], err_msg=name)
        assert array.sharding == one_by_one.arrays()[name].sharding


def test_parts_of_maps_that_lie_side_by_side_within_heads_are_found_from_any_entry_to_any_other() -> None:
    """Entry j of the second of three maps with heads of 4 is entry 12 (j // 4) + 4 + j % 4 of the tensor."""
    piece = names.Piece("qkv", "key", (), (5, 12), True, start=4, whole=36, run=4)
    for start in range(12):
        for stop in range(start + 1, 13):
            ours, theirs = [], []
            for here, there in piece.places(start, stop):
                ours += range(here.start, here.stop)
                theirs += range(there.start, there.stop)
            assert ours == list(range(stop - start))
            assert theirs == [12 * (j // 4) + 4 + j % 4 for j in range(start, stop)]


def test_the_host_holds_one_tensor_besides_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What NumPy holds at the most; benchmarks/device/loading.py measures the whole process at 300 MB."""
    monkeypatch.setattr(loading, "SMALL_BYTES", 0)
    config = {"model_type": "llama", "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
    folder = bridge.save(
        bridge.init(config | {"num_hidden_layers": 8, "vocab_size": 4096}, jax.random.key(0)), tmp_path / "model"
    )
    mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"))
    largest, total = 4 * 4096 * 256, (folder / "model.safetensors").stat().st_size
    bridge.load(folder, mesh=mesh)  # compiles
    gc.collect()
    tracemalloc.start()
    try:
        policy = bridge.load(folder, mesh=mesh)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    shards = sum(array.nbytes for array in policy.arrays().values())
    assert shards > 0.99 * total
    assert peak - min(held, shards) <= 1.3 * largest


def transformers_name(model_type: str) -> str:
    """Of the class with this family's head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]


@pytest.mark.parametrize(
    "case", [*(f for f in FAMILIES if f != "gemma3"), "gpt2_untied", "phi3_longrope", "gpt_neox_in_turn"]
)
def test_what_is_saved_is_what_was_loaded(case: str, root: Path, tmp_path: Path) -> None:
    """The same tensors under the same names as transformers saves, bit for bit; and the same when loaded again."""
    source = folder_of(root, case)
    policy = bridge.load(source)
    saved = bridge.save(policy, tmp_path / "out")
    ours, theirs = load_file(saved / "model.safetensors"), load_file(source / "model.safetensors")
    assert {name: tensor.shape for name, tensor in ours.items()} == shapes(case)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
    written = json.loads((saved / "config.json").read_text())
    given = json.loads((source / "config.json").read_text())
    assert written == given | {"dtype": "float32", "architectures": [transformers_name(given["model_type"])]}
    again = bridge.load(saved)
    assert again.architecture == policy.architecture
    for name, array in policy.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


def test_the_text_part_of_a_model_of_images_is_saved_as_a_text_model(root: Path, tmp_path: Path) -> None:
    """With the configuration's defaults written out, and without what reads images."""
    source = tmp_path / "source"
    shutil.copytree(folder_of(root, "gemma3"), source)
    given = json.loads((source / "config.json").read_text()) | {"dtype": "float32", "architectures": ["Whole"]}
    given["text_config"].pop("head_dim")
    given["text_config"]["num_key_value_heads"] = None
    (source / "config.json").write_text(json.dumps(given))
    with pytest.raises(bridge.BridgeError, match="mis-shaped"):  # they are 256 channels and 4 heads
        bridge.load(source)
    given["text_config"] |= {"head_dim": 16, "num_key_value_heads": 2}
    (source / "config.json").write_text(json.dumps(given))
    policy = bridge.load(source)
    saved = bridge.save(policy, tmp_path / "out")
    written = json.loads((saved / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == ("gemma3_text", ["Gemma3ForCausalLM"])
    assert not {"text_config", "vision_config"} & set(written)
    assert load_file(saved / "model.safetensors").keys() == {
        name.replace("language_model.model.", "model.")
        for name in load_file(source / "model.safetensors")
        if name.startswith("language_model.")
    }
    again = bridge.load(saved)
    assert again.architecture == policy.architecture
    for name, array in policy.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


def test_shards_index_tokenizer_and_template(folder: Path, tmp_path: Path) -> None:
    for name, content in TOKENIZER_FILES.items():
        (folder / name).write_bytes(content)
    policy = bridge.load(folder, dtype="bfloat16")
    assert policy.origin.stop_tokens == (2, 7)
    saved = bridge.save(policy, tmp_path / "out", shard_bytes=20_000)
    for name, content in TOKENIZER_FILES.items():
        assert (saved / name).read_bytes() == content
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in saved.glob("*.safetensors"))
    assert files == sorted(set(index["weight_map"].values()))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in policy.arrays().values())
    assert json.loads((saved / "config.json").read_text())["dtype"] == "bfloat16"
    again = bridge.load(saved)
    for name, array in policy.arrays().items():
        assert again.arrays()[name].dtype == "bfloat16"
        np.testing.assert_array_equal(again.arrays()[name], array)


def test_what_a_config_calls_its_model_is_kept(folder: Path, tmp_path: Path) -> None:
    given = json.loads((folder / "config.json").read_text()) | {"architectures": ["Mine"], "dtype": "float32"}
    (folder / "config.json").write_text("\ufeff" + json.dumps(given), "utf-8")
    saved = bridge.save(bridge.load(folder), tmp_path / "out")
    assert (saved / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_where_a_policy_came_from_is_found_from_another_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the tokenizer is not lost in silence when it is gone."""
    (folder / "tokenizer.json").write_bytes(TOKENIZER_FILES["tokenizer.json"])
    monkeypatch.chdir(folder.parent)
    policy = bridge.load(folder.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    bridge.save(policy, ".")
    assert Path("tokenizer.json").exists()
    assert bridge.load(".").architecture == policy.architecture
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    saved = bridge.save(policy, tmp_path / "link")
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    shutil.rmtree(folder)
    with pytest.raises(bridge.BridgeError, match=r"model: is gone, and with it the tokenizer"):
        bridge.save(policy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", ["float32", jax.numpy.bfloat16])
def test_a_folder_of_two_precisions_is_converted(dtype: Any, folder: Path) -> None:
    two_precisions(folder)
    stored = load_file(folder / "model.safetensors")["model.norm.weight"]
    norm = bridge.load(folder, dtype=dtype).arrays()["final_norm"]
    np.testing.assert_array_equal(norm, stored.astype(dtype))
    assert norm.dtype == dtype


def test_a_folder_in_use_is_not_overwritten(folder: Path) -> None:
    policy = bridge.load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(bridge.BridgeError, match="exists and is not empty"):
        bridge.save(policy, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_decoder_saved_without_its_head_and_prefix_is_read(root: Path, tmp_path: Path) -> None:
    """As the oldest GPT-2 checkpoints are, with the causal mask among the tensors."""
    source = folder_of(root, "gpt2")
    bare = {n.removeprefix("transformer."): t for n, t in load_file(source / "model.safetensors").items()}
    bare |= {f"h.{i}.attn.bias": np.ones((1, 1, 64, 64), np.float32) for i in range(3)}
    shutil.copyfile(source / "config.json", tmp_path / "config.json")
    save_file(bare, tmp_path / "model.safetensors")
    tokens, mask = padded(rows("gpt2"), [0, 0, 0], 40)
    np.testing.assert_array_equal(
        bridge.load(tmp_path).log_probs(tokens, mask), bridge.load(source).log_probs(tokens, mask)
    )


def test_a_tied_head_may_be_there_if_it_is_the_embedding(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}, folder / "model.safetensors")
    bridge.load(folder)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, folder / "model.safetensors")
    said = r"tie_word_embeddings is true, .*lm_head\.weight differs from model\.embed_tokens\.weight, which contradict"
    with pytest.raises(bridge.BridgeError, match=said):
        bridge.load(folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    np.testing.assert_array_equal(bridge.load(folder).arrays()["head"].T, tensors["model.embed_tokens.weight"] + 1)


def test_every_bad_tensor_is_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"][:-1]
    tensors["model.layers.0.self_attn.q_proj.weight"] = tensors["model.layers.0.self_attn.q_proj.weight"].astype(
        np.int8
    )
    tensors["model.layers.3.mlp.up_proj.weight"] = np.zeros(3, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(bridge.BridgeError) as caught:
        bridge.load(folder)
    message = str(caught.value)
    assert "missing: model.norm.weight" in message
    assert "unknown: model.layers.3.mlp.up_proj.weight" in message
    assert "mis-shaped: model.layers.1.mlp.up_proj.weight has the shape (79, 48), expected (80, 48)" in message
    assert "quantised?): model.layers.0.self_attn.q_proj.weight is I8" in message
    assert "\n" not in message


def split(folder: Path) -> Path:
    """Into two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[i::2]) for i in (0, 1)]
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for file, half in zip(files, halves, strict=True):
        save_file(half, folder / file)
    weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


def test_a_split_checkpoint_is_the_whole_one(folder: Path) -> None:
    whole = bridge.load(folder).arrays()
    split(folder)
    for name, array in bridge.load(folder).arrays().items():
        np.testing.assert_array_equal(array, whole[name])


def remove_shard(folder: Path) -> None:
    split(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def truncate_shard(folder: Path) -> None:
    split(folder)
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def escape(folder: Path) -> None:
    index = split(folder)
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))


def link_elsewhere(folder: Path) -> None:
    outside = folder.parent / "elsewhere.safetensors"
    (folder / "model.safetensors").rename(outside)
    (folder / "model.safetensors").symlink_to(outside)


def name_another_tensor(folder: Path) -> None:
    index = split(folder)
    index.write_text(index.read_text().replace('"model.norm.weight"', '"model.norm.wait"'))


def swap_files(folder: Path) -> None:
    index = split(folder)
    content = json.loads(index.read_text())
    content["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
    content["weight_map"]["model.embed_tokens.weight"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps(content))


def omit_a_tensor(folder: Path) -> None:
    index = split(folder)
    content = json.loads(index.read_text())
    del content["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(content))


def folder_for_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def two_precisions(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float16)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_shard, "names model-00002-of-00002.safetensors, which is not there"),
        (truncate_shard, "damaged or incomplete"),
        (escape, "which is refused"),
        (link_elsewhere, "a link to a file elsewhere"),
        (name_another_tensor, "names model.norm.wait, which none of its files has"),
        (pickle_only, "pickled weights, which can run code"),
        (two_precisions, r"several precisions \(F16, F32\): choose the one for all"),
        (swap_files, r"says that model\.\S+ is in model-0000\d-of-00002.safetensors, but it is in model-0000\d"),
        (omit_a_tensor, r"omits model\.norm\.weight, which its files have"),
        (folder_for_weights, r"model\.safetensors: cannot be read \(Is a directory\)"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: not there"),
        (lambda folder: (folder / "model.safetensors").unlink(), "found neither"),
    ],
)
def test_bad_folders_are_refused_in_one_sentence(damage, words: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(bridge.BridgeError, match=words) as caught:
        bridge.load(folder)
    assert "\n" not in str(caught.value)


def test_neither_a_folder_nor_a_hub_id() -> None:
    with pytest.raises(bridge.BridgeError, match=r"expected a folder with config\.json, or a hub id"):
        bridge.load("there/is/no/such/folder")


def test_what_looks_like_a_path_is_no_hub_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for path, words in {
        "model/config.json": "not a file in it",
        "model/absent": "no folder; expected a folder with",
        "models/config.json": "no folder; expected a folder with",
    }.items():
        with pytest.raises(bridge.BridgeError, match=words):
            bridge.load(path)
    shutil.move(folder / "config.json", folder / "adapter_config.json")
    with pytest.raises(bridge.BridgeError, match=r"holds an adapter: load its base, .*bridge\.merge"):
        bridge.load(folder)


def test_weights_in_gguf_are_named_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "small.gguf").write_bytes(b"GGUF")
    for path in (tmp_path / "only", tmp_path / "only" / "small.gguf"):
        with pytest.raises(
            bridge.BridgeError, match=r"small\.gguf: weights in GGUF .*: mpo import gguf \S+small\.gguf "
        ):
            bridge.load(path)
    (folder / "model.safetensors").rename(folder / "model.gguf")
    with pytest.raises(bridge.BridgeError, match=r"model\.gguf: weights in GGUF"):
        bridge.load(folder)


def with_words(folder: Path, name: str) -> bridge.Tokenizer:
    """Give a model's folder a published tokenizer, and a vocabulary that is large enough for it."""
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 300, "eos_token_id": 299}
    return published(name, folder, **config)


def test_what_ends_a_row_is_one_set_in_training_generation_and_export(folder: Path, tmp_path: Path) -> None:
    """A base model (config 299) with a ChatML tokenizer (EOS 256, end of a turn 258) and settings that name 7."""
    words = with_words(folder, "chatml on a base model")
    turn, eos = words.encode("<|im_end|>")[0], words.eos
    policy = bridge.init(folder, jax.random.key(0))
    assert set(policy.origin.stop_tokens) == {299, eos, turn}
    (folder / "generation_config.json").write_text('{"eos_token_id": 7, "temperature": 0.6}')
    policy = bridge.Policy(policy.decoder, policy.arrays(), origin_of(folder))
    assert set(policy.origin.stop_tokens) == {7, 299, eos, turn}
    saved = bridge.save(policy, tmp_path / "out")
    settings = json.loads((saved / "generation_config.json").read_text())
    assert set(settings["eos_token_id"]) == {7, 299, eos, turn}
    assert settings["temperature"] == 0.6
    assert set(GenerationConfig.from_pretrained(saved).eos_token_id) == {7, 299, eos, turn}
    assert set(bridge.load(saved).origin.stop_tokens) == set(bridge.Tokenizer(saved).ends) == {7, 299, eos, turn}
    trained = SFT(None, **SIZES).read(policy, [([{"role": "user", "content": "how?"}], "fine"), ("how?", "fine")])
    assert [one.answer[-2:] for one in trained] == [(turn, *words.encode("\n")), (*words.encode("e"), eos)]


@pytest.mark.parametrize("end", ["eos", "turn", "config", "settings"])
def test_generation_stops_at_each_of_them(end: str, folder: Path) -> None:
    """A policy that always says one token, which is an end by one of the four."""
    words = with_words(folder, "chatml on a base model")
    (folder / "generation_config.json").write_text('{"eos_token_id": [7]}')
    token = {"eos": words.eos, "turn": words.encode("<|im_end|>")[0], "config": 299, "settings": 7}[end]
    policy = bridge.init(folder, jax.random.key(0))
    policy = bridge.Policy(policy.decoder, one_word(policy.arrays(), token), policy.origin)
    found = policy.generate([words.encode("how?")], max_new_tokens=5, temperature=0.0)
    assert np.asarray(found.mask).sum() == 1
    assert int(found.tokens[0, 0]) == token
    assert int(policy.generate([[1]], max_new_tokens=5, temperature=0.0, stop=()).mask.sum()) == 5


def one_word(arrays: dict[str, Any], token: int) -> dict[str, Any]:
    """Weights with which a token is the likeliest whatever stands before: layers add nothing to constant embeddings."""
    quiet = {n: jax.numpy.zeros_like(a) for n, a in arrays.items() if n in ("layers.output", "layers.down")}
    same = jax.numpy.ones_like(arrays["embedding"])
    return arrays | quiet | {"embedding": same.at[token].mul(1.0 + 1.0)}


def origin_of(folder: Path) -> Any:
    return bridge.init(folder, jax.random.key(0)).origin


def test_a_model_whose_answers_nothing_ends_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = json.loads((folder / "config.json").read_text())
    bridge.load(folder)
    assert not caplog.records
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    bridge.load(folder)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f"{folder}: no token ends an answer")
    assert "\n" not in said


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(bridge.BridgeError, match="expected the dtype"):
        bridge.init({"model_type": "gpt2", "n_layer": 1}, jax.random.key(0), dtype="int4")
