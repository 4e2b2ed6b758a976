"""Policies from Hugging Face folders, from hub ids, and from a configuration alone.

Everything that can be wrong is looked for before a weight is read, and reported at once: fields of the configuration
that change the mathematics, tensors that are missing, unknown, of another shape or precision, sizes that the mesh does
not divide. Then tensors go to their shards one by one; a layer's tensor is written into the array of all layers where
that lies, so the host holds one tensor at a time besides the shards.
"""

import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from llm_bridge.model import families, sharding
from llm_bridge.model.architecture import Architecture, BridgeError
from llm_bridge.model.compute import PRECISIONS, Compute
from llm_bridge.model.config import CODE, Fields, check_special_tokens, end_tokens, is_integer, raise_all
from llm_bridge.model.decoder import Decoder
from llm_bridge.model.names import Piece, pieces
from llm_bridge.model.tensor_files import (
    ADAPTER_CONFIG,
    CONFIG,
    DTYPES,
    GENERATION_CONFIG,
    TensorFiles,
    checkpoint_folder,
    of_gguf,
    read_json,
)
from llm_bridge.model.weights import Weight, random_weights, weights
from llm_bridge.policy.policy import Origin, Policy
from llm_bridge.text.tokenizer import tokenizer_of
from mmd.host.doors import absolute, error_of

LOG = logging.getLogger(__name__)

FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken")
MAX_NAMED = 8
SMALL_BYTES = 2**24  # up to here a weight of all layers is put together on the host


def load(
    path: str | os.PathLike[str],
    *,
    mesh: Mesh | None = None,
    dtype: DTypeLike | None = None,
    compute: Compute | None = None,
    revision: str | None = None,
    family: str | None = None,
) -> Policy:
    """A checkpoint as a policy on a mesh.

    Args:
        path: a folder as `save_pretrained` writes it, or the id of a model on the Hugging Face hub.
        mesh: of axes "data", "fsdp" and "tensor", or some of them; None for the first device.
        dtype: precision of the weights, such as "bfloat16"; None for that of the files, which must then have one.
        compute: precision of activations, what is recomputed, which attention.
        revision: of a hub id.
        family: a model family from outside this package, for a `model_type` that is not built in: `module:name`,
            `path.py:name` or the name that an installed package gives. Its module is imported. If None, the
            `model_type` finds the family, in this package or in an installed one.

    Raises:
        BridgeError: it cannot be loaded exactly; the message lists every reason.
    """
    mesh = sharding.as_mesh(mesh)
    folder, config, architecture = _described(path, mesh, revision, family)
    with TensorFiles(folder) as files:
        plan, target = _planned(architecture, files, family_of(config, family), dtype)
        placed = {
            name: _place(files, weight, plan[name], NamedSharding(mesh, sharding.spec(weight.full_axes, mesh)), target)
            for name, weight in weights(architecture).items()
        }
    origin = _origin(config, folder, architecture.vocabulary, family)
    return Policy(Decoder(architecture, compute or Compute(), mesh), placed, origin)


def look(
    path: str | os.PathLike[str], *, dtype: DTypeLike | None = None, family: str | None = None
) -> tuple[Path, Architecture]:
    """The folder and the architecture of what `load` would load on one device; no weight is read.

    Raises:
        BridgeError: it would not.
    """
    folder, config, architecture = _described(path, sharding.as_mesh(None), None, family)
    with TensorFiles(folder) as files:
        _planned(architecture, files, family_of(config, family), dtype)
    return folder, architecture


def architecture_at(path: str | os.PathLike[str], family: str | None = None) -> Architecture:
    """The architecture of a folder, of a `config.json`, or of a hub id, of which nothing else is downloaded.

    Raises:
        BridgeError: there is none, or it is not supported.
    """
    file = _config_file(path)
    return architecture_of(read_json(file), str(file), family)


def dtype_at(path: str | os.PathLike[str]) -> str:
    """The precision of weights that a configuration names, found as `architecture_at` finds it; else bfloat16.

    Raises:
        BridgeError: there is no configuration.
    """
    config = read_json(_config_file(path))
    parts = [part for part in (config, config.get("text_config")) if isinstance(part, Mapping)]
    named = [part.get(name) for part in parts for name in ("dtype", "torch_dtype")]
    return next((name for name in named if name in PRECISIONS), "bfloat16")


def _config_file(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    return file if file.is_file() and file.suffix == ".json" else checkpoint_folder(path, (CONFIG,)) / CONFIG


def check_weights(path: str | os.PathLike[str], *, dtype: DTypeLike | None = None, family: str | None = None) -> None:
    """That what `load` would load are finite numbers; reads every weight once, and keeps none.

    Raises:
        BridgeError: some are not, in the precision that they would have; or it would not load.
    """
    folder, config, architecture = _described(path, sharding.as_mesh(None), None, family)
    with TensorFiles(folder) as files:
        plan, target = _planned(architecture, files, family_of(config, family), dtype)
        names = dict.fromkeys(piece.tensor for pieces in plan.values() for piece in pieces)
        broken = [name for name in names if not files.is_finite(name, target)]
    raise_all(str(folder), _listed(f"weights that are not finite in {target}", broken))


def init(
    config: Mapping[str, Any] | str | os.PathLike[str],
    key: Key[Array, ""],
    *,
    mesh: Mesh | None = None,
    dtype: DTypeLike = "float32",
    compute: Compute | None = None,
    family: str | None = None,
) -> Policy:
    """A policy with random weights; works under `nnx.eval_shape` as well, and then takes no memory.

    Args:
        config: the content of a `config.json`, or its path, or its folder's, whose tokenizer the policy then has.
        key: of the weights.
        mesh: as of `load`.
        dtype: of the weights.
        compute, family: as of `load`.

    Raises:
        BridgeError: the configuration is not supported, or does not fit the mesh.
    """
    folder = None
    if not isinstance(config, Mapping):
        path = Path(config)
        folder = path if path.is_dir() else None
        config = read_json(path / CONFIG if path.is_dir() else path)
    config = _of_text(config, "the configuration", family)
    architecture = architecture_of(config, "the configuration", family)
    mesh = sharding.as_mesh(mesh)
    sharding.check(architecture, mesh)
    target, generator = _dtype(dtype), str(jax.random.key_impl(key))

    def make(data: Array) -> dict[str, Array]:
        return random_weights(architecture, jax.random.wrap_key_data(data, impl=generator), target)

    # Key data instead of a key: a number of the host is the same on all processes of a mesh, an array is one's own.
    data = jax.random.key_data(key)
    data = data if isinstance(data, Tracer) else np.asarray(data)
    made = jax.jit(make, out_shardings=sharding.shardings(architecture, mesh))(data)
    origin = _origin(config, folder, architecture.vocabulary, family)
    return Policy(Decoder(architecture, compute or Compute(), mesh), made, origin)


def architecture_of(config: Mapping[str, Any], where: str, named: str | None = None) -> Architecture:
    """What a configuration describes.

    Args:
        config: the content of a `config.json`.
        where: what it is called in messages.
        named: as `family` of `load`.

    Raises:
        BridgeError: it is not supported; the message lists every field that stands in the way.
    """
    config = _of_text(config, where, named)
    family = family_of(config, named)
    fields = Fields(config)
    check_special_tokens(fields)
    try:
        found = family.architecture(fields)
    except BridgeError:
        raise
    except Exception as error:
        if config.get("model_type") not in families.names():
            fault = f"the family's architecture raised {error_of(error)}"
        elif isinstance(error, TypeError | ValueError | AttributeError | KeyError | ArithmeticError):
            fault = f"a field has a value of the wrong type ({error})"
        else:
            raise
        raise_all(where, [*fields.problems, fault])
        raise
    if not isinstance(found, Architecture):
        raise BridgeError(f"{where}: expected the family's architecture to return a bridge.Architecture, got {found!r}")
    kinds = ("full_attention" if window is None else "sliding_attention" for window in found.windows)
    fields.repeats("layer_types", list(kinds))
    fields.finish(where)
    return found


def family_of(config: Mapping[str, Any], named: str | None = None) -> Any:
    """The family: a module, or an object from outside with the same names.

    Raises:
        BridgeError: there is none for this `model_type`, also if the checkpoint brings code of its own for it, or is a
            model of more than text.
    """
    try:
        return families.load(config.get("model_type"), named)
    except BridgeError as error:
        if isinstance(inner := config.get("text_config"), Mapping):
            kind = f" (model_type {inner['model_type']!r})" if inner.get("model_type") else ""
            raise BridgeError(
                f"{error}; its language model{kind} stands in text_config beside other parts, and such a checkpoint "
                "cannot be loaded, nor can a part of it: take one of a language model alone"
            ) from None
        if code := [name for name in CODE if config.get(name)]:
            raise BridgeError(f"{error}; code of the checkpoint ({', '.join(code)}) is never run") from None
        raise


def _of_text(config: Mapping[str, Any], where: str, named: str | None) -> Mapping[str, Any]:
    """The configuration, of a model of more than text that of the part that reads it.

    Raises:
        BridgeError: there is no family for it.
    """
    family = family_of(config, named)
    return family.text_config(config, where) if hasattr(family, "text_config") else config


def prefix_of(family: Any, names: Mapping[str, Any]) -> str:
    """The family's prefix of tensor names, or one of several; "" in checkpoints of the bare decoder without it."""
    known = getattr(family, "PREFIXES", (family.PREFIX,))
    return next((prefix for prefix in known if any(name.startswith(prefix) for name in names)), "")


def _origin(config: Mapping[str, Any], folder: Path | None, n_tokens: int, family: str | None) -> Origin:
    """What is kept of a checkpoint beside its weights.

    Ids beyond the vocabulary, which published checkpoints have, stand for no token.
    """
    pad, text = config.get("pad_token_id"), json.dumps(dict(config))
    home = str(folder.absolute()) if folder else None  # whatever the working directory is later
    stop_tokens = tuple(token for token in _ends(config, folder) if _is_token(token, n_tokens))
    if folder and not stop_tokens:
        LOG.warning(
            "%s: no token ends an answer (eos_token_id is in neither config.json nor generation_config.json, and no "
            "tokenizer has an EOS token), so answers have as many tokens as they may have",
            folder,
        )
    pad = pad if _is_token(pad, n_tokens) else 0
    return Origin(str(config["model_type"]), text, home, stop_tokens, pad, family and absolute(family))


def _ends(config: Mapping[str, Any], folder: Path | None) -> list[int]:
    """The tokens that end a row: all that configuration, generation settings, tokenizer and chat template name."""
    path = folder / GENERATION_CONFIG if folder else None
    found = list(end_tokens(read_json(path), str(path))) if path and path.exists() else []
    found += end_tokens(config, "the configuration")
    try:
        words = tokenizer_of(str(folder.absolute())) if folder else None
        found += words.ends if words else ()
    except BridgeError as error:  # weights need no tokenizer; what does need it will say so again
        LOG.warning("%s: which tokens end an answer is known from the configuration files alone: %s", folder, error)
    return list(dict.fromkeys(found))


def _is_token(value: object, n_tokens: int) -> TypeGuard[int]:
    return is_integer(value) and 0 <= value < n_tokens


def _dtype(dtype: DTypeLike) -> np.dtype:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in ("float32", "bfloat16", "float16", "float64"):
        raise BridgeError(f"expected the dtype float32, bfloat16, float16 or float64, got {dtype!r}")
    if found.name == "float64" and not jax.config.jax_enable_x64:  # pyrefly: ignore[missing-attribute]
        raise BridgeError("float64 weights need jax_enable_x64: set it, or pass dtype='float32'")
    return found


def _described(
    path: str | os.PathLike[str], mesh: Mesh, revision: str | None, family: str | None
) -> tuple[Path, Mapping[str, Any], Architecture]:
    """Folder, configuration and architecture of a checkpoint, which fits a mesh."""
    folder = checkpoint_folder(path, FILES, revision=revision)
    if not (folder / CONFIG).exists():
        _refuse_what_is_no_model(folder)
    config = _of_text(read_json(folder / CONFIG), str(folder / CONFIG), family)
    architecture = architecture_of(config, str(folder / CONFIG), family)
    sharding.check(architecture, mesh)
    return folder, config, architecture


def _refuse_what_is_no_model(folder: Path) -> None:
    """Say what to do with a folder that holds something else.

    Raises:
        BridgeError: it holds an adapter, or weights of another kind.
    """
    if (folder / ADAPTER_CONFIG).exists():
        base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "its base"
        raise BridgeError(
            f"{folder}: holds an adapter: load its base, then bridge.load_adapter(base, ...); the base is {base}, and "
            "bridge.save(bridge.merge(...), FOLDER) writes both as one model, as mpo export --merge does for a run"
        )
    if files := sorted(folder.glob("*.gguf")):
        raise of_gguf(files[0])


def _planned(
    architecture: Architecture, files: TensorFiles, family: Any, dtype: DTypeLike | None
) -> tuple[dict[str, list[Piece]], np.dtype]:
    """Where every weight comes from, and the precision that it is converted to."""
    if dtype is not None:
        _dtype(dtype)
    plan, stored = _plan(architecture, family, files, str(files.folder))
    return plan, _target(dtype, stored, str(files.folder))


def _plan(
    architecture: Architecture, family: Any, files: TensorFiles, where: str
) -> tuple[dict[str, list[Piece]], set[str]]:
    """The pieces of every weight, all of them there and as expected, and the files' precisions."""
    wanted = pieces(architecture, family.TENSORS, prefix_of(family, files.shapes))
    expected = {piece.tensor: piece.stored_shape for piece in wanted}
    ignored = re.compile("|".join(family.IGNORED) or "(?!)")
    extra = {name for name in files.shapes if name not in expected and not ignored.fullmatch(name)}
    problems = []
    if architecture.tied and "head" in family.TENSORS and (head := family.TENSORS["head"].name) in extra:
        extra.discard(head)
        if not _same(files, head, embedding := wanted[0].tensor):
            problems.append(
                f"tie_word_embeddings is true, by {CONFIG} or by the family's default, and {head} differs from "
                f"{embedding}, which contradict each other: set it to false to use both tensors, or remove {head}"
            )
    there = [name for name in expected if name in files.shapes]
    problems += _listed("missing", [name for name in expected if name not in files.shapes])
    problems += _listed("unknown", sorted(extra))
    wrong = [
        f"{name} has the shape {files.shapes[name]}, expected {expected[name]}"
        for name in there
        if files.shapes[name] != expected[name]
    ]
    problems += _listed("mis-shaped", wrong)
    kinds = {files.dtypes[name] for name in there}
    odd = [f"{name} is {files.dtypes[name]}" for name in there if files.dtypes[name] not in DTYPES]
    problems += _listed("of a precision that is not supported (quantised?)", odd)
    raise_all(where, problems)
    plan: dict[str, list[Piece]] = {}
    for piece in wanted:
        plan.setdefault(piece.weight, []).append(piece)
    return plan, kinds


def _target(dtype: DTypeLike | None, stored: set[str], where: str) -> np.dtype:
    """What weights are converted to, or the one precision of all."""
    if dtype is None and len(stored) > 1:
        raise BridgeError(
            f"{where}: has tensors of several precisions ({', '.join(sorted(stored))}): "
            'choose the one for all, such as load(..., dtype="float32")'
        )
    return _dtype(np.dtype(DTYPES[stored.pop()]) if dtype is None else dtype)


def _same(files: TensorFiles, one: str, other: str) -> bool:
    """Whether a head that should be the embedding is it."""
    if other not in files.shapes or files.shapes[one] != files.shapes[other]:
        return False
    n_rows = files.shapes[one][0]
    blocks = (slice(i, min(i + 4096, n_rows)) for i in range(0, n_rows, 4096))
    return all(np.array_equal(files.read(one, [block]), files.read(other, [block])) for block in blocks)


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return [f"{what}: {', '.join(names[:MAX_NAMED])}{more}"]


def _place(files: TensorFiles, weight: Weight, plan: list[Piece], placement: NamedSharding, dtype: np.dtype) -> Array:
    """Bring all pieces of one weight to its shards."""
    if not weight.stack:
        return jax.make_array_from_callback(weight.shape, placement, partial(_read, files, plan[0], dtype))
    if weight.n_bytes(dtype) <= SMALL_BYTES:
        read = partial(_read_stacked, files, weight, {piece.index: piece for piece in plan}, dtype)
        return jax.make_array_from_callback(weight.full_shape, placement, read)
    inner = NamedSharding(placement.mesh, PartitionSpec(*placement.spec[len(weight.stack) :]))
    stacked = jax.jit(partial(jnp.zeros, weight.full_shape, dtype), out_shardings=placement)()
    put = _put(placement)
    for piece in plan:
        part = jax.make_array_from_callback(weight.shape, inner, partial(_read, files, piece, dtype))
        stacked = put(stacked, part, tuple(np.int32(i) for i in piece.index))
    return stacked


def _read_stacked(
    files: TensorFiles,
    weight: Weight,
    plan: dict[tuple[int, ...], Piece],
    dtype: np.dtype,
    index: Any,
) -> np.ndarray:
    """One shard of a stacked weight that is small enough to be put together on the host."""
    n_stack = len(weight.stack)
    stack = [range(*part.indices(size)) for part, size in zip(index, weight.stack, strict=False)]
    parts = [_read(files, plan[at], dtype, index[n_stack:]) for at in itertools.product(*stack)]
    return np.stack(parts).reshape(*map(len, stack), *parts[0].shape)


@cache
def _put(placement: NamedSharding) -> Callable[..., Array]:
    """Write a part of a stacked array where it lies."""

    def put(stacked: Array, part: Array, index: tuple[Array, ...]) -> Array:
        start = (*index, *[jnp.zeros((), jnp.int32)] * part.ndim)
        return jax.lax.dynamic_update_slice(stacked, part.reshape((1,) * len(index) + part.shape), start)

    return jax.jit(put, donate_argnums=0, out_shardings=placement)


def _read(files: TensorFiles, piece: Piece, dtype: np.dtype, index: Any) -> np.ndarray:
    """One shard of a piece, in our order of axes."""
    bounds = [part.indices(size)[:2] for part, size in zip(index, piece.shape, strict=True)]
    out = np.empty([stop - start for start, stop in bounds], dtype)
    for ours, theirs in piece.places(*bounds[-1]):
        slices = [*(slice(start, stop) for start, stop in bounds[:-1]), theirs]
        files.fill(out[..., ours], piece.tensor, slices[::-1] if piece.transposed else slices, piece.transposed)
    return out
