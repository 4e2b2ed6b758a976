"""The safetensors files of a checkpoint folder: what is in them, checked before anything is read, and slices of it.

Nothing of a checkpoint is ever executed: weights in pickles are refused, and so are indices that name files elsewhere.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from llm_bridge.model.architecture import BridgeError

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64}
HUB_ID = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
MAX_TENSORS = 1_000_000
BLOCK_BYTES = 2**24


class TensorFiles:
    """Open files of one checkpoint; a context manager.

    Attributes:
        folder: where they are.
        shapes: of every tensor, by name.
        dtypes: as safetensors writes them, such as "BF16".
    """

    def __init__(self, folder: Path):
        """Open every file and read its header.

        Raises:
            BridgeError: a file is missing, damaged or refused.
        """
        self.folder = folder
        self._stack = ExitStack()
        self._home: dict[str, Any] = {}
        self._file: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        with ExitStack() as stack:
            for path in shards(folder):
                self._open(path, stack)
            self._check_index(folder)
            self._stack = stack.pop_all()

    def __enter__(self) -> "TensorFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, name: str, index: Sequence[slice]) -> np.ndarray:
        """Part of a tensor, in the file's precision."""
        return self._home[name].get_slice(name)[tuple(index)]

    def fill(self, out: np.ndarray, name: str, index: Sequence[slice], transposed: bool) -> None:
        """Write part of a tensor, given in the file's order of axes, into an array; block by block.

        Args:
            out: takes the values, converted to its precision.
            name: the tensor.
            index: slices with start and stop, step 1.
            transposed: `out` has the axes in reverse.
        """
        target = out.T if transposed else out
        first = index[0]
        row_bytes = max(1, target[:1].nbytes)
        step = max(1, BLOCK_BYTES // row_bytes)
        for start in range(first.start, first.stop, step):
            stop = min(start + step, first.stop)
            block = self.read(name, [slice(start, stop), *index[1:]])
            target[start - first.start : stop - first.start] = block

    def is_finite(self, name: str, dtype: np.dtype) -> bool:
        """Whether a tensor has finite numbers only, also once it is converted; read block by block."""
        shape = self.shapes[name]
        n_rows, row = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        step = max(1, BLOCK_BYTES // (dtype.itemsize * max(1, row)))
        with np.errstate(over="ignore"):  # which is what is looked for
            return all(
                np.isfinite(self.read(name, [slice(i, min(i + step, n_rows))] if shape else []).astype(dtype)).all()
                for i in range(0, n_rows, step)
            )

    def _open(self, path: Path, stack: ExitStack) -> None:
        from safetensors import SafetensorError, safe_open  # not needed for policies without files

        try:
            path.open("rb").close()
        except OSError as error:
            raise BridgeError(f"{path}: cannot be read ({error.strerror})") from None
        try:
            file = stack.enter_context(safe_open(path, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise BridgeError(f"{path}: damaged or incomplete, download it again ({error})") from None
        for name in file.keys():  # noqa: SIM118 - not a dict
            if name in self._home:
                raise BridgeError(f"{path}: the tensor {name} is also in another file")
            tensor = file.get_slice(name)
            self._file[name] = path.name
            self._home[name], self.shapes[name], self.dtypes[name] = file, tuple(tensor.get_shape()), tensor.get_dtype()
        if len(self._home) > MAX_TENSORS:
            raise BridgeError(f"{path}: more than {MAX_TENSORS} tensors, which no model has")

    def _check_index(self, folder: Path) -> None:
        path = folder / INDEX
        if (folder / SINGLE).exists() or not path.exists():
            return
        named = _weight_map(path)
        if absent := sorted(set(named) - set(self._home)):
            raise BridgeError(f"{path}: names {absent[0]}, which none of its files has ({len(absent)} such tensors)")
        if omitted := sorted(set(self._home) - set(named)):
            raise BridgeError(f"{path}: omits {omitted[0]}, which its files have ({len(omitted)} such tensors)")
        if moved := sorted(name for name, file in named.items() if self._file[name] != file):
            name = moved[0]
            raise BridgeError(f"{path}: says that {name} is in {named[name]}, but it is in {self._file[name]}")


def checkpoint_folder(path: str | os.PathLike[str], patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """A folder, or the one that the model of a hub id is downloaded to.

    Args:
        path: the folder or the id.
        patterns: of the files that are downloaded.
        revision: of a hub id.

    Raises:
        BridgeError: there is no such folder, and no such model to be had.
    """
    folder, name = Path(path), os.fspath(path)
    if folder.is_dir():
        return folder
    if folder.is_file() and folder.suffix == ".gguf":
        raise of_gguf(folder)
    if folder.exists() or folder.is_symlink():
        raise BridgeError(f"{name}: expected the folder of a checkpoint, not a file in it or a link to nothing")
    if not re.fullmatch(HUB_ID, name) or folder.suffix in (".json", ".safetensors") or folder.parent.exists():
        raise BridgeError(f"{name}: no folder; expected a folder with {CONFIG}, or a hub id such as Qwen/Qwen3-0.6B")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise BridgeError(f"{name}: no folder of this name, and not to be had from the hub ({reason})") from error


def of_gguf(file: Path) -> BridgeError:
    """What is said of weights in GGUF, with what to do instead."""
    return BridgeError(
        f"{file}: weights in GGUF are not read as they stand: mpo import gguf {file} FOLDER writes a folder that is; "
        "or take the model's own, with safetensors"
    )


def shards(folder: Path) -> list[Path]:
    """The files of a checkpoint.

    Raises:
        BridgeError: there are none, one is missing, or one lies outside the folder.
    """
    single, index = folder / SINGLE, folder / INDEX
    if single.exists():
        return [_inside(folder, single)]
    if not index.exists():
        if any(path for pattern in PICKLES for path in folder.glob(pattern)):
            raise BridgeError(f"{folder}: only pickled weights, which can run code and are refused; convert them first")
        if files := sorted(folder.glob("*.gguf")):
            raise of_gguf(files[0])
        raise BridgeError(f"{folder}: expected {SINGLE} or {INDEX}, found neither")
    found = []
    for name in dict.fromkeys(_weight_map(index).values()):
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BridgeError(f"{index}: expected names of safetensors files beside it, got {name!r}, which is refused")
        if not (folder / name).exists():
            raise BridgeError(f"{index}: names {name}, which is not there; download it again")
        found.append(_inside(folder, folder / name))
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        BridgeError: it is not there or holds something else.
    """
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise BridgeError(f"{path}: not there") from None
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise BridgeError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise BridgeError(f"{index}: expected a weight_map from tensors to files")
    return found


def _inside(folder: Path, path: Path) -> Path:
    """A file that is in the folder, or linked from it as the cache of huggingface_hub links its files."""
    blobs = folder.resolve().parent.parent / "blobs"
    if not any(path.resolve().is_relative_to(home) for home in (folder.resolve(), blobs)):
        raise BridgeError(f"{path}: a link to a file elsewhere, which is refused")
    return path
