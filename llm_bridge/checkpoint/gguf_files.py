"""A GGUF file as a Hugging Face folder: weights without quantisation, tokenizer, chat template, what ends an answer.

GGUF is the format of llama.cpp. The package `gguf` reads the file and takes the quantisation off; the rest is names.
Followed are models of the architecture "llama" (Llama, SmolLM2, Mistral and others under that name) with a byte-level
tokenizer. Whatever would change a logit and is not followed is refused by name.

llama.cpp rotates neighbouring channels where transformers rotates the two halves of a head, so rows of queries and keys
are stored in another order, which is undone here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from llm_bridge.checkpoint.export import SHARD_BYTES, new_folder, write_tensors
from llm_bridge.checkpoint.loading import architecture_of
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.config import raise_all
from llm_bridge.model.families import llama
from llm_bridge.model.names import pieces
from llm_bridge.model.tensor_files import CONFIG, GENERATION_CONFIG

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# Names of tensors: ours, as in `llm_bridge.model.weights`, by those of llama.cpp.
TENSORS = {
    "embedding": "token_embd",
    "final_norm": "output_norm",
    "head": "output",
    "layers.attention_norm": "blk.{layer}.attn_norm",
    "layers.mlp_norm": "blk.{layer}.ffn_norm",
    "layers.query": "blk.{layer}.attn_q",
    "layers.key": "blk.{layer}.attn_k",
    "layers.value": "blk.{layer}.attn_v",
    "layers.output": "blk.{layer}.attn_output",
    "layers.gate": "blk.{layer}.ffn_gate",
    "layers.up": "blk.{layer}.ffn_up",
    "layers.down": "blk.{layer}.ffn_down",
}
ROPE_FACTORS = "rope_freqs.weight"
# Fields "llama.*" that are read, and values of others that change nothing.
READ = {
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"),
    *("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
}
NEUTRAL = {"expert_count": 0, "expert_used_count": 0}
LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
# Control tokens that end an answer by their text alone, as llama.cpp takes them.
ENDS = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
OF_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
# How text is cut before merges, by the name that llama.cpp has for it.
CUTS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [BYTES],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTES],
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": OF_LLAMA_3}, "behavior": "Isolated", "invert": False},
        BYTES | {"use_regex": False},
    ],
}


def import_gguf(file: str | os.PathLike[str], folder: str | os.PathLike[str], *, dtype: str = "float32") -> Path:
    """Write a GGUF file as a folder that `load`, transformers and vLLM read.

    Args:
        file: of the architecture "llama"; it may be quantised.
        folder: must not exist, or be empty.
        dtype: of the weights that are written, "float32", "bfloat16" or "float16".

    Raises:
        BridgeError: the package `gguf` is missing, or the folder cannot be written. Or the file is damaged or of a kind
            that is not followed, and the message lists every reason.
    """
    if dtype not in DTYPES:
        raise BridgeError(f"expected dtype to be {', '.join(DTYPES)}, got {dtype!r}")
    reader, where = _opened(Path(file)), os.fspath(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    facts = Facts(reader.fields, where)
    config = _config(facts, tensors)
    names, words = _names(config, tensors, where), _words(facts, config["vocab_size"])
    ids = _special(facts, words)
    contents = {
        "tokenizer.json": _tokenizer(facts, words),
        "tokenizer_config.json": _tokenizer_config(facts, words),
        GENERATION_CONFIG: ids,
        CONFIG: config | {"dtype": dtype} | ids,
    }
    item = np.dtype(DTYPES[dtype]).itemsize
    sizes = {ours: item * int(np.prod(tensors[theirs].shape)) for ours, theirs in names.items()}

    def made(name: str) -> np.ndarray:
        return _dequantized(tensors[names[name]], config, DTYPES[dtype], where)

    with new_folder(folder, writes=True) as part:
        write_tensors(part, sizes, made, SHARD_BYTES)
        for name, content in contents.items():
            (part / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return Path(folder)


class Facts:
    """The metadata of a file, each value of the kind that is wanted.

    Attributes:
        where: what the file is called in messages.
        architecture: which the file names.
    """

    def __init__(self, fields: Mapping[str, Any], where: str):
        self._fields, self.where = fields, where
        self.architecture = self.text("general.architecture")

    def get(self, name: str) -> Any:
        """A value; None where there is none."""
        return self._fields[name].contents() if name in self._fields else None

    def text(self, name: str, default: str | None = None) -> str:
        """A text."""
        return self._of(name, default, str, "a text")

    def number(self, name: str, default: float | None = None) -> float:
        """A number, as the shortest decimal that is the same in float32."""
        return float(str(np.float32(self._of(name, default, (int, float), "a number"))))

    def size(self, name: str, default: int | None = None) -> int:
        """A count."""
        found = self._of(name, default, int, "one integer")
        if found < 1:
            raise BridgeError(f"{self.where}: expected {name} >= 1, got {found}")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        return self._of(name, default, bool, "true or false")

    def token(self, role: str, n_tokens: int) -> int | None:
        """The id of a special token; None where there is none."""
        found = self.get(f"tokenizer.ggml.{role}_token_id")
        return found if isinstance(found, int) and 0 <= found < n_tokens else None

    def listed(self, name: str, kind: type) -> list[Any]:
        """A list of values of one kind."""
        found = self.get(name)
        if not isinstance(found, list) or not found or not all(isinstance(one, kind) for one in found):
            raise BridgeError(f"{self.where}: expected {name} to be a list of {kind.__name__}, and it is not")
        return found

    def unread(self) -> list[str]:
        """Names of fields of the architecture that are not followed."""
        begin = f"{self.architecture}."
        mine = {name.removeprefix(begin): name for name in self._fields if name.startswith(begin)}
        return [
            f"{name} = {str(self.get(name))[:40]}"
            for short, name in mine.items()
            if short not in READ and not (short in NEUTRAL and self.get(name) == NEUTRAL[short])
        ]

    def _of(self, name: str, default: Any, kind: Any, wanted: str) -> Any:
        found = self.get(name)
        found = default if found is None else found
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise BridgeError(f"{self.where}: expected {name} to be {wanted}, got {str(found)[:40]}")
        return found


def _opened(file: Path) -> Any:
    """What reads the file."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise BridgeError("reading GGUF needs the package gguf: pip install 'magnetic-mirror[gguf]'") from None
    try:
        reader = GGUFReader(file)
    except OSError as error:
        raise BridgeError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (ValueError, IndexError, KeyError) as error:
        raise BridgeError(f"{file}: no GGUF file, or a damaged one, download it again ({error})") from None
    count = reader.fields.get("split.count")
    if count is not None and count.contents() > 1:
        raise BridgeError(f"{file}: one of {count.contents()} parts; join them first: llama-gguf-split --merge")
    return reader


def _config(facts: Facts, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.json`, without its token ids."""
    if (kind := facts.architecture) != "llama":
        raise BridgeError(
            f"{facts.where}: a model of the architecture {kind!r}, of GGUF files only 'llama' is followed"
        )
    raise_all(facts.where, [f"{text} is not followed" for text in facts.unread()])
    width, heads = facts.size("llama.embedding_length"), facts.size("llama.attention.head_count")
    channels = facts.size(
        "llama.attention.key_length", facts.size("llama.rope.dimension_count", max(width // heads, 1))
    )
    for name in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if facts.size(name, channels) != channels:
            raise BridgeError(f"{facts.where}: expected {name} to be {channels}, the width of a head of queries")
    embedding = tensors.get(f"{TENSORS['embedding']}.weight")
    n_tokens = facts.size("llama.vocab_size", 1 if embedding is None else int(embedding.shape[-1]))
    scaling = _rope_scaling(facts, tensors.get(ROPE_FACTORS), channels)
    return {
        "architectures": [llama.ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": n_tokens,
        "hidden_size": width,
        "intermediate_size": facts.size("llama.feed_forward_length"),
        "num_hidden_layers": facts.size("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.size("llama.attention.head_count_kv", heads),
        "head_dim": channels,
        "max_position_embeddings": facts.size("llama.context_length"),
        "rms_norm_eps": facts.number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": facts.number("llama.rope.freq_base", 10_000.0),
        **({"rope_scaling": scaling} if scaling else {}),
        "tie_word_embeddings": f"{TENSORS['head']}.weight" not in tensors,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }


def _rope_scaling(facts: Facts, factors: Any, channels: int) -> dict[str, Any] | None:
    """The scaling of rotations: none, linear, or Llama 3's, which the file holds as a factor of each frequency."""
    form = facts.text("llama.rope.scaling.type", "none")
    if factors is None:
        if form == "none":
            return None
        if form == "linear":
            return {"rope_type": "linear", "factor": facts.number("llama.rope.scaling.factor")}
        raise BridgeError(f"{facts.where}: rope.scaling.type = {form} is not followed")
    given = np.asarray(factors.data, np.float32).reshape(-1)
    scaling = {"rope_type": "llama3", "factor": float(given.max()), **LLAMA_3}
    theta, context = facts.number("llama.rope.freq_base", 10_000.0), LLAMA_3["original_max_position_embeddings"]
    turns = context * theta ** -(np.arange(0, channels, 2) / channels) / (2 * np.pi)
    low, high = LLAMA_3["low_freq_factor"], LLAMA_3["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    expected = 1 / (kept + (1 - kept) / scaling["factor"])
    if given.shape != expected.shape or np.abs(given / expected - 1).max() > 1e-3:
        raise BridgeError(
            f"{facts.where}: {ROPE_FACTORS} holds other factors than those of Llama 3, which are followed"
        )
    return scaling


def _names(config: Mapping[str, Any], tensors: Mapping[str, Any], where: str) -> dict[str, str]:
    """The file's tensor of every tensor of the folder; all of them are there and as expected."""
    architecture = architecture_of(config, where)
    wanted = pieces(architecture, llama.TENSORS, llama.PREFIX)
    found = {piece.tensor: f"{TENSORS[piece.weight].format(layer=(*piece.index, 0)[0])}.weight" for piece in wanted}
    shapes = {piece.tensor: piece.stored_shape for piece in wanted}
    there = {name: tuple(map(int, tensor.shape[::-1])) for name, tensor in tensors.items()}
    problems = [f"has no tensor {theirs}" for theirs in found.values() if theirs not in there]
    problems += [
        f"{theirs} has the shape {there[theirs]}, expected {shapes[ours]}"
        for ours, theirs in found.items()
        if theirs in there and there[theirs] != shapes[ours]
    ]
    problems += [f"the tensor {name} is not followed" for name in there if name not in {*found.values(), ROPE_FACTORS}]
    raise_all(where, problems)
    return found


def _dequantized(tensor: Any, config: Mapping[str, Any], dtype: Any, where: str) -> np.ndarray:
    """A tensor as it stands in the folder."""
    from gguf import dequantize

    try:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
    except (NotImplementedError, ValueError) as error:
        raise BridgeError(f"{where}: {tensor.name} cannot be read ({error})") from None
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    if (n := heads.get(tensor.name.split(".")[-2])) is not None:
        values = values.reshape(n, values.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values.astype(dtype))
    if not np.isfinite(values).all():
        raise BridgeError(f"{where}: {tensor.name} has numbers that are not finite in {np.dtype(dtype).name}")
    return values


class Words(NamedTuple):
    """What a file says of its tokenizer.

    Attributes:
        tokens: by id.
        kinds: of each token, as llama.cpp counts them.
        cut: how text is cut before merges, a name in `CUTS`.
        special: ids by role, "bos", "eos", "unk" and "pad".
        begins: whether every text begins with BOS.
    """

    tokens: list[str]
    kinds: list[int]
    cut: str
    special: dict[str, int]
    begins: bool


def _words(facts: Facts, n_rows: int) -> Words:
    """The tokenizer, which is a byte-level one."""
    kind, cut = facts.text("tokenizer.ggml.model"), facts.text("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or cut not in CUTS:
        name = f"tokenizer.ggml.model = {kind}" if kind != "gpt2" else f"tokenizer.ggml.pre = {cut}"
        raise BridgeError(f"{facts.where}: {name} is not followed; a byte-level one (gpt2: {', '.join(CUTS)}) is")
    tokens, kinds = facts.listed("tokenizer.ggml.tokens", str), facts.listed("tokenizer.ggml.token_type", int)
    if not len(tokens) == len(set(tokens)) == len(kinds) or len(tokens) > n_rows:
        found = f"{len(tokens)} tokens, {len(set(tokens))} different ones, {len(kinds)} kinds"
        raise BridgeError(f"{facts.where}: the tokenizer has {found}, and the embedding {n_rows} rows")
    ids = {role: facts.token(theirs, len(tokens)) for role, theirs in ROLES.items()}
    special = {role: token for role, token in ids.items() if token is not None}
    return Words(tokens, kinds, cut, special, facts.flag("tokenizer.ggml.add_bos_token"))


def _tokenizer(facts: Facts, words: Words) -> dict[str, Any]:
    """The content of `tokenizer.json`."""
    bos = words.special.get("bos") if words.begins else None
    apart = [i for i, kind in enumerate(words.kinds) if kind in (CONTROL, USER_DEFINED) or i in words.special.values()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, words.tokens[i], special=words.kinds[i] == CONTROL) for i in apart],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": CUTS[words.cut]},
        "post_processor": None if bos is None else _begun(words.tokens[bos], bos),
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": words.cut == "llama-bpe",
            "vocab": {token: i for i, token in enumerate(words.tokens)},
            "merges": [merge.partition(" ")[::2] for merge in facts.listed("tokenizer.ggml.merges", str)],
        },
    }


def _tokenizer_config(facts: Facts, words: Words) -> dict[str, Any]:
    """The content of `tokenizer_config.json`."""
    template = facts.get("tokenizer.chat_template")
    return {
        **{f"{role}_token": words.tokens[token] for role, token in words.special.items()},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts.size("llama.context_length"),
        **({} if template is None else {"chat_template": template}),
    }


def _special(facts: Facts, words: Words) -> dict[str, Any]:
    """The ids that `config.json` and `generation_config.json` have."""
    named = [facts.token(name, len(words.tokens)) for name in ("eos", "eot", "eom")]
    known = [i for i, token in enumerate(words.tokens) if words.kinds[i] == CONTROL and token in ENDS]
    ends = list(dict.fromkeys(one for one in (*named, *known) if one is not None))
    found = {f"{role}_token_id": words.special[role] for role in ("bos", "pad") if role in words.special}
    return found | ({"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {})


def _added(number: int, content: str, *, special: bool) -> dict[str, Any]:
    """A token that is never made of others."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, **plain, "special": special}


def _begun(token: str, number: int) -> dict[str, Any]:
    """The token that every text begins with."""
    first: Sequence[dict[str, Any]] = [{"SpecialToken": {"id": token, "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": [*first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [*first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
