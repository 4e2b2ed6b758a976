"""The environment of the whole suite, set before JAX is imported, and the fixtures that every test may use.

Numerics are as strict as JAX allows: float64, no rank promotion and no mixing of dtypes unless written. Eight pretended
CPU devices let tests of placement and sharding run on any machine. What XLA compiles is kept in `.cache/jax` of the
checkout and shared by all tests, workers, subprocesses and runs; `JAX_COMPILATION_CACHE_DIR` says where else.
"""

import gc
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from tests.processes import QUICK_XLA

# What is given stands last: it wins.
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {QUICK_XLA} {os.environ.get('XLA_FLAGS', '')}"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two workers have two cores
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ["MAGNETIC_MIRROR_PROGRAMS"] = "off"  # a whole program knows the source, but not what a test has replaced

import hypothesis
import jax
import numpy as np
import pytest

from tests.shapes import checked
from tests.slow import Slow

assert checked  # `--jaxtyping-packages` names it, so it is there before the packages are imported


def processor() -> str:
    """Digest of what the processor can do: machine code for one may not run on another that shares the checkout."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.exists() else [platform.processor()]
    can = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))} or set(lines)
    return hashlib.sha256("".join([platform.machine(), *sorted(can)]).encode()).hexdigest()[:12]


CACHE = Path(__file__).resolve().parents[1] / ".cache" / "jax" / processor()
jax.config.update("jax_compilation_cache_dir", os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE)))
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The first example of a test compiles, so examples have no deadline; in CI they are the same in every run.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

MOST_MAPS = 30_000  # of a process; Linux allows 65,530, and each compiled program has about ten


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """A worker that holds too many programs dies when the next one is loaded: now and then it lets go of all."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


SEED = 20_230_501
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def key() -> jax.Array:
    """A JAX random key, the same in every run."""
    return jax.random.key(SEED)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy random generator, the same in every run."""
    return np.random.default_rng(SEED)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real matrices, elections and game files beside the checkout, `../shared/data`."""
    if not DATA.is_dir():
        pytest.skip("the real data (../shared/data beside the checkout) is not on this machine")
    return DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `tests/slow.py`."""
    parser.addoption("--quick", action="store_true", help="leave out the tests that tests/slow.txt lists")
    parser.addoption("--write-slow", type=float, metavar="SECONDS", help="list tests that take longer there")


def pytest_configure(config: pytest.Config) -> None:
    """Which tests are slow is a plugin of its own. Until all is imported no garbage is looked for: there is none."""
    gc.disable()
    config.pluginmanager.register(Slow(), "slow")


def pytest_collection_finish() -> None:
    """From now on garbage is looked for, though not in what was imported."""
    gc.freeze()
    gc.enable()
