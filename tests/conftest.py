"""The environment of the whole suite, set before JAX is imported, and the fixtures that every test may use.

Numerics are as strict as JAX allows: float64, no rank promotion and no mixing of dtypes unless written. Eight pretended
CPU devices let tests of placement and sharding run on any machine.
"""

import os
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The first example of a test compiles, so examples have no deadline; in CI they are the same in every run.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

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
