"""Compiled programs kept whole on disk: a process that finds its program there neither traces nor lowers it.

JAX's persistent cache (`JAX_COMPILATION_CACHE_DIR`) keeps what XLA made of a program, under a key that only tracing and
lowering give; on a game tree these take longer than loading. Where that cache is on, the whole program is kept in its
folder instead, under a key of all that it depends on: the source of this package, versions, settings of JAX and XLA,
the processor, and the shapes of its arguments. A file that is damaged, or that somebody else could have written, is as
good as none: like JAX's own cache these files hold machine code. With `MAGNETIC_MIRROR_PROGRAMS=off` in the environment
there is JAX's own cache alone; so it is for an algorithm or a magnet from outside, whose source the key does not know.

Source: `jax.experimental.serialize_executable`.
"""

import contextlib
import functools
import hashlib
import io
import os
import pickle
import platform
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jax.stages import Compiled

from mmd.host.environment import versions
from mmd.host.files import replacing
from mmd.host.jax_cache import without_jax_cache

FOLDER, SUFFIX = "magnetic-mirror-programs", ".program"
DIGEST = hashlib.sha256
KNOWN = {"mmd", "jax", "jaxlib", "numpy", "ml_dtypes"} | sys.stdlib_module_names  # packages that the key speaks for
SWITCH = "MAGNETIC_MIRROR_PROGRAMS"  # environment variable
PLATFORMS = ("cpu",)  # elsewhere programs that come back from the disk are not tested: JAX's own cache serves there
ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_debug_nans")


def ready(function: Any, *arguments: Any) -> Callable[..., Any]:
    """`function`, compiled for arguments of these shapes: from the disk, or compiled now and kept.

    Where JAX keeps nothing on disk, or the program cannot be kept, it is the function itself.

    Args:
        function: what `jax.jit` returned, without static arguments.
        arguments: arrays on one device or on the host, and pytrees of arrays whose static parts can be pickled.
    """
    cache = getattr(jax.config, "jax_compilation_cache_dir", None)
    devices = _devices(arguments)
    if not cache or os.environ.get(SWITCH) == "off" or len(devices) != 1 or devices[0].platform not in PLATFORMS:
        return function
    try:
        path = Path(cache) / FOLDER / f"{getattr(function, '__name__', 'program')}-{_key(arguments, devices)}{SUFFIX}"
    except (pickle.PicklingError, AttributeError, TypeError):
        return function  # of something in the arguments another process would not know the name, or we the source
    leaves, structure = jax.tree.flatten(arguments)
    program = _load(path, leaves, devices)
    if program is None:
        begun = time.perf_counter()
        with without_jax_cache():
            program = _of_leaves(function, structure).lower(*leaves).compile()
        if time.perf_counter() - begun >= getattr(jax.config, "jax_persistent_cache_min_compile_time_secs", 1.0):
            _keep(program, path)
    return lambda *arguments: program(*jax.tree.leaves(arguments))


def _of_leaves(function: Any, structure: Any) -> Any:
    """The function of the leaves of its arguments, to be compiled.

    JAX describes the arguments of a compiled program by putting descriptions where the arrays were. A class that checks
    what it is made of, as all do in the tests, takes no descriptions: so the program's arguments are arrays alone.
    """

    def of_leaves(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    of_leaves.__name__ = getattr(function, "__name__", "program")
    return jax.jit(of_leaves)


def _devices(arguments: tuple[Any, ...]) -> list[Any]:
    """Where the arguments are; the default device if they are all on the host."""
    found = {device for leaf in jax.tree.leaves(arguments) if isinstance(leaf, jax.Array) for device in leaf.devices()}
    return list(found or jnp.zeros(()).devices())


def _key(arguments: tuple[Any, ...], devices: list[Any]) -> str:
    """Differs wherever the program may differ.

    Raises:
        PicklingError, AttributeError, TypeError: something in the arguments has no name, or is from outside.
    """
    leaves, structure = jax.tree.flatten(arguments)
    shapes = [(np.shape(leaf), str(leaf.dtype), getattr(leaf, "weak_type", False)) for leaf in leaves]
    machine = [(d.platform, d.device_kind, d.client.platform_version, d.id) for d in devices]
    settings = [(name, getattr(jax.config, name, None)) for name in SETTINGS]
    settings += [(name, os.environ.get(name)) for name in ENVIRONMENT]
    rest = (sorted(versions(("jax", "jaxlib", "numpy")).items()), _source(), _processor())
    content = io.BytesIO()
    _Pickler(content).dump((structure, shapes, machine, settings, rest))
    return DIGEST(content.getvalue()).hexdigest()


class _Pickler(pickle.Pickler):
    """Refuses classes and functions of packages whose source may change unseen."""

    def reducer_override(self, given: Any) -> Any:
        """Asked for everything that is pickled by its name, among others."""
        if isinstance(given, type | FunctionType) and given.__module__.partition(".")[0] not in KNOWN:
            raise pickle.PicklingError(f"{given.__module__}.{given.__qualname__} is from outside")
        return NotImplemented


@functools.cache
def _source() -> bytes:
    """Digest of this package's source."""
    digest = DIGEST()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


@functools.cache
def _processor() -> str:
    """What the processor can do: a program for one may not run on another that shares the folder."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        wanted = ("model name", "flags", "Features", "CPU part")
        return platform.machine() + "".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _keep(program: Compiled, path: Path) -> None:
    """Write a program and the digest that tells a whole file; where that fails, the next process compiles."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, RuntimeError, pickle.PicklingError):
        executable, _, out_tree = serialize_executable.serialize(program)
        content = pickle.dumps((executable, out_tree))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as part:
            part.touch(mode=0o600)
            part.write_bytes(DIGEST(content).digest() + content)


def _load(path: Path, leaves: list[Any], devices: list[Any]) -> Compiled | None:
    """A program that was kept; None if there is none, or none to be trusted."""
    try:
        if not _ours(path):
            return None
        content = path.read_bytes()
        size = DIGEST().digest_size
        if DIGEST(content[size:]).digest() != content[:size]:
            return None
        executable, out_tree = pickle.loads(content[size:])
        in_tree = jax.tree.structure((tuple(leaves), {}))
        return serialize_executable.deserialize_and_load(executable, in_tree, out_tree, execution_devices=devices)
    except Exception:  # whatever a runtime has against a program of another one: it is compiled anew
        return None


def _ours(path: Path) -> bool:
    """Whether nobody but this user could have written a file."""
    found = path.stat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
