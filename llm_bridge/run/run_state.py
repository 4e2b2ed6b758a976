"""Checkpoints of training: a pytree of arrays, committed as a whole or not at all, and never loaded damaged.

    checkpoints/step_00000012/state/          the arrays, written by Orbax, each process its own shards
                              position.json   which run, which step, what the arrays are
                              manifest.json   size and SHA-256 of every other file; written last

A checkpoint is put together in a hidden folder, synced to the disk and renamed, so a process that is killed at any
instant leaves the last committed one. It counts only if its manifest is there and every file is as the manifest says;
otherwise the one before is taken, with a warning. Between two rounds a run is nothing but its state, so a run that goes
on from a checkpoint repeats bit for bit what it would have done, on the same devices with the same versions.

A single process may write a checkpoint behind its next rounds (`save(..., behind=True)`): the call returns when the
arrays have been copied to the host, and the checkpoint counts, as always, from when its folder has its name. Several
processes do not: what Orbax has them agree on meanwhile gets in the way of what they compute.

Orbax is used in this module alone.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from llm_bridge.model.architecture import BridgeError

FOLDER, STATE, POSITION, MANIFEST = "checkpoints", "state", "position.json", "manifest.json"
LAYOUT = 1  # raised whenever the same files mean something else
NAME = re.compile(r"step_(\d{8,})")
BLOCK_BYTES = 1 << 20
WRITTEN_AT_ONCE = 64 << 20  # bytes of arrays on their way to the disk, or the largest array


def changed(name: str, mine: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    """What is said of a setting that is another one than the run's; one that does what version 0.1 did is left out."""
    now, was = (repr(numbers[name]) if name in numbers else "not set" for numbers in (mine, its))
    return f"{name} is {now} and was {was}"


class RunStateError(BridgeError):
    """A checkpoint cannot be written, or none can be resumed from; the message says which and why."""


class RunStateWarning(UserWarning):
    """A checkpoint is damaged, and an earlier one is taken."""


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: rounds that are behind.
        state: the pytree.
    """

    step: int
    state: Any


class RunState:
    """The checkpoints of one run.

    Args:
        run: the run's directory.
        identity: what the run's numbers depend on besides the state, as JSON; a checkpoint of anything else is refused.
            None to read whatever is there.
        keep: how many of the newest checkpoints are kept.
        remedies: of parts of the identity, what to do where they differ.
    """

    def __init__(
        self,
        run: str | os.PathLike[str],
        identity: Mapping[str, Any] | None,
        *,
        keep: int = 2,
        remedies: Mapping[str, str] | None = None,
    ):
        if keep < 1:
            raise RunStateError(f"expected to keep at least one checkpoint, got {keep}")
        self.folder = Path(run).absolute() / FOLDER  # a judge may go elsewhere
        self._given = Path(run) / FOLDER
        self.identity = None if identity is None else json.loads(json.dumps({"layout": LAYOUT, **identity}))
        self.keep, self.remedies = keep, remedies or {}
        self._writing: threading.Thread | None = None
        self._failure: RunStateError | None = None

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, whole or not, the newest last."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob("step_*"))
        return sorted(int(name[1]) for name in names if name)

    def begun_as(self) -> dict[str, Any]:
        """The identity of the run that the newest checkpoint is of; {} where there is none that says it."""
        for step in reversed(self.steps()):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return dict(json.loads((self._path(step) / POSITION).read_text("utf-8"))["identity"])
        return {}

    def discard(self) -> None:
        """Remove every checkpoint."""
        if jax.process_index() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def check_room(self, state: Any) -> None:
        """That the disk has room for the checkpoints that will be kept and for the one that is being written.

        Args:
            state: one of the run, of the same size as all of them.

        Raises:
            RunStateError: it has not; the message says how much is needed and how much is free.
        """
        place = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        size, free = _n_bytes(state), shutil.disk_usage(place).free
        more = max(1, self.keep + 1 - len(self.steps()))
        if free < more * size:
            raise RunStateError(
                f"{self._given}: the disk is too full for this run's checkpoints: {more} of {size:,} bytes each need "
                f"{more * size:,} bytes ({self.keep} are kept, and one is written beside them), and {free:,} are free; "
                "make room, keep fewer (--save-total-limit), or choose a folder on another disk"
            )

    def save(self, step: int, state: Any, *, copies: Sequence[np.ndarray] | None = None, behind: bool = False) -> Path:
        """Commit a checkpoint; all processes have to call it. One that is being written is waited for first.

        Args:
            step: rounds that are behind.
            state: what is saved.
            copies: its leaves in order on the host, where no device is to be asked for anything; None to ask.
            behind: return when the arrays have been copied, and commit in another thread; see `settle`. Of several
                processes nobody does.

        Raises:
            RunStateError: it cannot be written, and the one before is untouched; or the state is not finite. Also of
                the one that is waited for.
        """
        self.settle()
        leaves = _plain(state) if copies is None else {f"{i:05d}": copy for i, copy in enumerate(copies)}
        if broken := not_finite(state, copies):
            raise RunStateError(f"step {step}: {broken[0]} is not finite, so the state is not saved")
        final = self._path(step)
        if final.exists() and not _damage(final):
            return final
        part = final.with_name(f".{final.name}.part")
        n_bytes, arrays = _n_bytes(state), _described(state)
        try:
            _on_first(lambda: self._begin(part, n_bytes))
            behind = behind and jax.process_count() == 1
            written = _write_arrays(part / STATE, _apart(leaves) if behind else leaves)
            if behind:
                self._writing = threading.Thread(target=self._commit_behind, args=(written, part, step, arrays))
                self._writing.start()
                return final
            written()
            _on_first(lambda: self._commit(part, step, arrays))
        except Exception as error:  # Orbax and TensorStore raise what they like when a disk is full
            raise self._cannot(step, n_bytes, error) from error
        return final

    def settle(self) -> None:
        """Wait for the checkpoint that is being written behind.

        Raises:
            RunStateError: it could not be written; said once.
        """
        if self._writing is not None:
            self._writing.join()
        self._writing, failure, self._failure = None, self._failure, None
        if failure is not None:
            raise failure

    def _commit_behind(self, written: Callable[[], None], part: Path, step: int, arrays: Sequence[Any]) -> None:
        """In a thread of its own: no device is asked, and nobody is waited for but the disk."""
        try:
            written()
            self._commit(part, step, arrays)
        except Exception as error:
            self._failure = self._cannot(step, sum(int(np.prod(shape)) * 4 for _, shape, _ in arrays), error)

    def _cannot(self, step: int, n_bytes: int, error: Exception) -> RunStateError:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        before = [name for name in self.steps() if name != step]
        kept = f"the one before, {self._path(before[-1]).name}, is untouched" if before else "there is none before"
        found = f"{self._given / self._path(step).name}: cannot write the checkpoint ({reason}); "
        return RunStateError(f"{found}about {n_bytes:,} bytes are needed; {kept}")

    def restore(self, template: Any) -> Saved | None:
        """The newest checkpoint that is whole; None if there never was one.

        Args:
            template: a state of the same run; it says structure, shapes, precisions and where arrays lie. An array
                without any element may have any size in the checkpoint: a run's first round makes room for it.

        Raises:
            RunStateError: every checkpoint is damaged, or the newest whole one is of another run.
        """
        damaged = []
        for step in reversed(self.steps()):
            path = self._path(step)
            if reason := _damage(path):
                damaged.append(f"{self._given / path.name} ({reason})")
                continue
            position = json.loads((path / POSITION).read_text("utf-8"))
            self._check(path, position, template)
            if damaged:
                found = f"damaged: {', '.join(damaged)}; going on from step {step} instead"
                warnings.warn(found, RunStateWarning, stacklevel=2)
            shapes = [tuple(shape) for _, shape, _ in position["arrays"]]
            return Saved(step, _read_arrays(path / STATE, template, shapes))
        if damaged:
            raise RunStateError(f"no whole checkpoint is left: {', '.join(damaged)}; start without resuming")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}"

    def _begin(self, part: Path, n_bytes: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".step_*.part"):
            shutil.rmtree(left)
        if (free := shutil.disk_usage(self.folder).free) < n_bytes:
            raise OSError(f"only {free:,} bytes are free")
        part.mkdir()

    def _commit(self, part: Path, step: int, arrays: Sequence[Any]) -> None:
        position, final = {"step": step, "identity": self.identity, "arrays": arrays}, self._path(step)
        (part / POSITION).write_text(json.dumps(position, indent=1) + "\n", "utf-8")
        files = {str(path.relative_to(part)): _fingerprint(path) for path in _files(part)}
        (part / MANIFEST).write_text(json.dumps(files, indent=1) + "\n", "utf-8")
        for path in [part / MANIFEST, *_files(part), *(path for path in part.rglob("*") if path.is_dir()), part]:
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)  # a damaged one
        part.replace(final)
        _sync(self.folder)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self._path(old))

    def _check(self, path: Path, position: Mapping[str, Any], template: Any) -> None:
        its, shown = position["identity"], self._given / path.name
        mine = its if self.identity is None else self.identity
        for name in [*mine, *its]:
            if mine.get(name) != its.get(name):
                difference = changed(name, mine, its)
                remedy = self.remedies.get(name, "choose another folder or start anew")
                raise RunStateError(f"{shown}: of another run, {difference}; {remedy}")
        for own, theirs in zip(_described(template), position["arrays"], strict=False):
            if 0 in own[1] and len(own[1]) == len(theirs[1]):
                own = (own[0], theirs[1], own[2])
            if list(own) != theirs:
                raise RunStateError(f"{shown}: the state has another layout, {theirs} and not {list(own)}")
        if len(_described(template)) != len(position["arrays"]):
            raise RunStateError(f"{shown}: the state has another number of arrays, {len(position['arrays'])}")


def not_finite(state: Any, copies: Sequence[np.ndarray] | None = None) -> list[str]:
    """Names of the arrays of a state that hold a value that is not finite; single numbers may be NaN, for none yet.

    Args:
        state: the pytree.
        copies: as in `RunState.save`.
    """
    named = jax.tree_util.tree_leaves_with_path(state)
    floats = {
        jax.tree_util.keystr(path): leaf if copies is None else copies[i]
        for i, (path, leaf) in enumerate(named)
        if not _is_key(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact) and leaf.ndim
    }
    if copies is not None:
        return [name for name, array in floats.items() if not np.isfinite(array).all()]
    return [name for name, fine in _are_finite(floats).items() if not bool(fine)]


@jax.jit
def _are_finite(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.all(jnp.isfinite(array)) for name, array in arrays.items()}


# ------------------------------------------------------------------------------------------------ arrays


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> dict[str, jax.Array]:
    """The leaves by number; random keys as their data."""
    leaves = (jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state))
    return {f"{i:05d}": leaf for i, leaf in enumerate(leaves)}


def _n_bytes(state: Any) -> int:
    """Of all arrays of a state."""
    return sum(leaf.nbytes for leaf in _plain(state).values())


def _described(state: Any) -> list[tuple[str, list[int], str]]:
    """Name, shape and precision of every leaf."""
    named = jax.tree_util.tree_leaves_with_path(state)
    return [(jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)) for path, leaf in named]


def _apart(leaves: Mapping[str, jax.Array | np.ndarray]) -> dict[str, np.ndarray]:
    """Copies, which the next update does not overwrite; Orbax may not copy what is on the host already."""
    return {name: leaf if isinstance(leaf, np.ndarray) else np.array(leaf) for name, leaf in leaves.items()}


def _write_arrays(path: Path, leaves: Mapping[str, jax.Array | np.ndarray]) -> Callable[[], None]:
    """Begin to write; what is returned waits for the end."""
    import orbax.checkpoint as ocp

    at_once = max(WRITTEN_AT_ONCE, *(leaf.nbytes + 1 for leaf in leaves.values()))
    checkpointer = ocp.StandardCheckpointer(save_concurrent_gb=at_once / 10**9)
    checkpointer.save(path.absolute(), dict(leaves))

    def written() -> None:
        try:
            checkpointer.wait_until_finished()
        finally:
            checkpointer.close()

    return written


def _read_arrays(path: Path, template: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    import orbax.checkpoint as ocp

    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape if leaf.size else shape, leaf.dtype, sharding=leaf.sharding)
        for (name, leaf), shape in zip(_plain(template).items(), shapes, strict=True)
    }
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(path.absolute(), wanted)
    leaves, structure = jax.tree.flatten(template)
    restored = [
        jax.random.wrap_key_data(found[name], impl=jax.random.key_impl(leaf)) if _is_key(leaf) else found[name]
        for name, leaf in zip(sorted(found), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, restored)


# ------------------------------------------------------------------------------------------------ files


def _files(folder: Path) -> list[Path]:
    """Every file but the manifest."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _fingerprint(path: Path) -> list[Any]:
    """Size in bytes and SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return [path.stat().st_size, digest.hexdigest()]


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint; "" if it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text("utf-8"))
        there = {str(file.relative_to(path)): file for file in _files(path)}
        if missing := sorted(set(manifest) - set(there)):
            return f"{missing[0]} is missing"
        if extra := sorted(set(there) - set(manifest)):
            return f"{extra[0]} does not belong to it"
        return next(
            (f"{name} is not as it was" for name, was in manifest.items() if _fingerprint(there[name]) != was), ""
        )
    except FileNotFoundError:
        return "it was never committed"
    except (OSError, ValueError, AttributeError) as error:
        return f"its manifest cannot be read, {type(error).__name__}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _on_first(action: Any) -> None:
    """Do something on the first process while the others wait."""
    if jax.process_index() == 0:
        action()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("run_state")
