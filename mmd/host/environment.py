"""What a result depends on besides its input: versions, device, commit. Written beside every run and by `mmd env`."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

DISTRIBUTION = "magnetic-mirror"
LIBRARIES = ("jax", "jaxlib", "numpy", "scipy")


def versions(libraries: tuple[str, ...] = LIBRARIES) -> dict[str, str | None]:
    """Versions of this package, Python and the libraries; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in (DISTRIBUTION, *libraries):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def device() -> str:
    """The device that new arrays are put on, such as "cpu:0 (cpu)"."""
    return describe(next(iter(jnp.zeros(()).devices())))


def describe(of: Any) -> str:
    """Platform, number and kind of a `jax.Device`."""
    return f"{of.platform}:{of.id} ({of.device_kind})"


def has_float64(on: Any) -> bool:
    """Whether sums on a `jax.Device` keep more digits than float32 has."""
    with jax.enable_x64(True), jax.default_device(on):
        return bool(jnp.asarray(1.0) + 2.0**-40 > 1.0)


def commit() -> str | None:
    """Commit of the checkout that this code runs from, "-dirty" appended if it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    describe_head = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(describe_head, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
