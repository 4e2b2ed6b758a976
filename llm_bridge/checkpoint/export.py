"""A policy as a Hugging Face folder: what transformers and vLLM load, and what `load` reads back bit for bit.

Tensors have the family's names, order of axes and fusions; large checkpoints are split with an index. Configuration,
generation settings, tokenizer and chat template are those that the policy came with, byte for byte where nothing
changed; where the settings leave out a token that ends rows, they name all of them. The folder appears under its name
when it is complete.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from safetensors import SafetensorError
from safetensors.numpy import save_file

from llm_bridge.checkpoint.orbax_files import save_module
from llm_bridge.model import families
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.config import CODE, end_tokens
from llm_bridge.model.names import Piece, pieces
from llm_bridge.model.tensor_files import ADAPTER_CONFIG, CONFIG, GENERATION_CONFIG, INDEX, SINGLE, read_json
from llm_bridge.model.wrapped import Wrapped
from llm_bridge.policy.policy import Origin, Policy

CARD = "README.md"
SHARD_BYTES = 5_000_000_000
BESIDE_WEIGHTS = (
    GENERATION_CONFIG,
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template*",
    "*.tiktoken",
    "*.model",
)
LAST = (CONFIG, ADAPTER_CONFIG)  # what a folder is known by
Group = list[Piece]  # the pieces of one tensor, side by side


def save(
    policy: Policy, folder: str | os.PathLike[str], *, shard_bytes: int = SHARD_BYTES, card: str | None = None
) -> Path:
    """Write a policy as a folder that `load`, transformers and vLLM read; a wrapped module's weights as Orbax's.

    Every process of a mesh has to call it; the first one writes. What `bridge.wrap` made is read back by
    `bridge.restore`.

    Args:
        policy: without adapters, but for those of a wrapped module.
        folder: must not exist, or be empty.
        shard_bytes: above which weights are split into several files; of no use to a wrapped module.
        card: the text of a model card, `README.md`; None for none.

    Raises:
        BridgeError: the policy has adapters, or the folder cannot be written.
    """
    if isinstance(policy.decoder, Wrapped):
        return _saved_module(policy, Path(folder), card)
    if policy.is_adapted:
        raise BridgeError("the policy has adapters: save a merged one, or use save_adapter")
    if (source := policy.origin.folder) and not Path(source).is_dir():
        raise BridgeError(f"{source}: is gone, and with it the tokenizer that belongs to the policy; put it back")
    writes = jax.process_index() == 0
    with new_folder(folder, writes) as part:
        if writes:
            _write_rest(policy, part)
            if card is not None:
                (part / CARD).write_text(card, "utf-8")
        _write_weights(policy, part, shard_bytes, writes)
    return Path(folder)


def _saved_module(policy: Policy, folder: Path, card: str | None) -> Path:
    """Orbax's files, with the tokenizer's and a card beside them."""
    found = save_module(policy, folder)
    if jax.process_index() == 0:
        _copy_tokenizer(policy.origin, found)
        if card is not None:
            (found / CARD).write_text(card, "utf-8")
    return folder


@contextmanager
def new_folder(folder: str | os.PathLike[str], writes: bool) -> Iterator[Path]:
    """A folder to write to, whose content is found under its name when the block has ended well, and nothing before.

    Args:
        folder: must not exist, or be empty.
        writes: whether this process does.

    Raises:
        BridgeError: the folder is in use, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    there = folder.is_dir()
    part = (folder if there else folder.parent) / f".{folder.name}.{os.getpid()}.part"
    try:
        if folder.exists() and (not there or any(not path.match(".*.part") for path in folder.iterdir())):
            raise BridgeError(f"{folder}: exists and is not empty; choose another folder")
        if writes:
            part.mkdir(parents=True)
        yield part
        if writes and there:  # perhaps a link, or where somebody works: the folder itself stays
            for path in sorted(part.iterdir(), key=lambda path: path.name in LAST):
                path.replace(folder / path.name)
        elif writes:
            part.replace(folder)
    except (OSError, SafetensorError) as error:
        raise BridgeError(f"{folder}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        if writes:
            shutil.rmtree(part, ignore_errors=True)


def _write_rest(policy: Policy, part: Path) -> None:
    origin = policy.origin
    given = json.loads(origin.config)
    config = {name: value for name, value in given.items() if name not in CODE}  # whose files are not saved
    if not config.get("architectures"):
        config["architectures"] = [families.load(origin.model_type, origin.family).ARCHITECTURE]
    dtype = str(policy.weights["embedding"].dtype)
    key = "torch_dtype" if "torch_dtype" in config else "dtype"
    source = Path(origin.folder) / CONFIG if origin.folder else None
    if source is not None and given == config | {key: dtype} == read_json(source):  # no part of another model's
        shutil.copyfile(source, part / CONFIG)
    else:
        (part / CONFIG).write_text(json.dumps(config | {key: dtype}, indent=2) + "\n", "utf-8")
    write_beside(origin, part, policy.decoder.temperature)


def write_beside(origin: Origin, part: Path, temperature: float) -> None:
    """Write the tokenizer's files, and generation settings that name every token which has ended rows.

    Both are copied as they are. Where the settings, or without them the configuration, leave out an end token, the
    settings are written with all of them: readers of the folder know the end of an answer from nowhere else. So it is
    with the temperature of a policy that has another one than 1.
    """
    _copy_tokenizer(origin, part)
    config, path = json.loads(origin.config), part / GENERATION_CONFIG
    settings = read_json(path) if path.exists() else {}
    told = end_tokens(settings if "eos_token_id" in settings else config, str(path))
    added: dict[str, object] = {}
    if not set(origin.stop_tokens) <= set(told):
        added["eos_token_id"] = list(origin.stop_tokens)
    if temperature != 1:
        added |= {"do_sample": True, "temperature": temperature}
    if added:
        if not path.exists():
            names = ("bos_token_id", "eos_token_id", "pad_token_id")
            settings = {name: config[name] for name in names if config.get(name) is not None}
        path.write_text(json.dumps(settings | added, indent=2) + "\n", "utf-8")


def _copy_tokenizer(origin: Origin, part: Path) -> None:
    """Copy the files that stand beside a checkpoint's weights, as they are."""
    source = Path(origin.folder) if origin.folder else None
    found = {path for pattern in BESIDE_WEIGHTS for path in (source.glob(pattern) if source else ())}
    for path in sorted(path for path in found if path.is_file()):
        shutil.copyfile(path, part / path.name)


def _write_weights(policy: Policy, part: Path, shard_bytes: int, writes: bool) -> None:
    family, arrays = families.load(policy.origin.model_type, policy.origin.family), policy.arrays()
    groups: dict[str, Group] = {}
    for piece in pieces(policy.architecture, family.TENSORS, family.PREFIX):
        groups.setdefault(piece.tensor, []).append(piece)
    item = arrays["embedding"].dtype.itemsize
    sizes = {name: item * int(np.prod(group[0].stored_shape)) for name, group in groups.items()}
    write_tensors(part, sizes, lambda name: _tensor(arrays, groups[name], writes), shard_bytes, writes=writes)


def write_tensors(
    part: Path, sizes: Mapping[str, int], made: Callable[[str], np.ndarray], shard_bytes: int, *, writes: bool = True
) -> None:
    """Write safetensors, in one file or in several with an index, one file's tensors in memory at a time.

    Args:
        part: the folder.
        sizes: bytes of each tensor, by name.
        made: gives a tensor; called on every process, as some have to be gathered.
        shard_bytes: above which weights are split into several files.
        writes: whether this process does.
    """
    shards = list(_shards(sizes, shard_bytes))
    weight_map = {}
    for i, names in enumerate(shards):
        file = SINGLE if len(shards) == 1 else f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: made(name) for name in names}
        weight_map |= dict.fromkeys(names, file)
        if writes:
            save_file(tensors, part / file, {"format": "pt"})
    if writes and len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(weight_map.items()))}
        (part / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def _shards(sizes: Mapping[str, int], shard_bytes: int) -> Iterator[list[str]]:
    """Names of tensors, file by file; a file is larger than asked for only if one tensor is."""
    names: list[str] = []
    size = 0
    for name, n_bytes in sizes.items():
        if names and size + n_bytes > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += n_bytes
    yield names


def _tensor(arrays: dict[str, jax.Array], group: Group, writes: bool) -> np.ndarray:
    """A tensor as it stands in the file; empty on processes that do not write."""
    parts = [on_host(arrays[piece.weight], piece.index) for piece in group]
    if not writes:
        return np.empty(0)
    runs = [part.reshape(*part.shape[:-1], -1, piece.run) for part, piece in zip(parts, group, strict=True)]
    whole = parts[0] if len(parts) == 1 else np.concatenate(runs, axis=-1).reshape(*parts[0].shape[:-1], -1)
    return np.ascontiguousarray(whole.T if group[0].transposed else whole)


def on_host(array: jax.Array, index: tuple[int, ...]) -> np.ndarray:
    """One layer of a weight, gathered from all devices; the other processes take part."""
    mesh = cast(NamedSharding, array.sharding).mesh
    return np.asarray(_take(NamedSharding(mesh, PartitionSpec()))(array, tuple(np.int32(i) for i in index)))


@cache
def _take(whole: NamedSharding) -> Callable[..., jax.Array]:
    """Compiled for every device to have the part."""

    def take(array: jax.Array, index: tuple[jax.Array, ...]) -> jax.Array:
        for i in index:
            array = jax.lax.dynamic_index_in_dim(array, i, keepdims=False)
        return array

    return jax.jit(take, out_shardings=whole)
