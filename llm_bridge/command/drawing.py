"""What `mpo generate` and `mpo eval` draw: streams that no two models share, and not what a checkpoint recommends.

The random numbers of a model's answers depend on the seed, on the model's weights and on the name that it has among
others, and on nothing else. So the same command draws the same answers again, a model's answers do not depend on which
others stand beside it, and two models never share their noise: also not if one command draws the one and another
command the other, or if a model meets itself under two names. Shared noise makes answers alike that are independent
where models are in use, and in a game with cycles such answers have another win rate.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt32

from llm_bridge.command.options import Sampling
from llm_bridge.model.tensor_files import read_json
from llm_bridge.policy.policy import Policy

FILE = "generation_config.json"
# What a checkpoint may recommend, with the values that change nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (None, True),
    "temperature": (None, 1),
    "top_p": (None, 1),
    "top_k": (None, 0),
    "min_p": (None, 0),
    "typical_p": (None, 1),
    "repetition_penalty": (None, 1),
}
MIX, ROUND = 0x9E3779B1, 0x85EBCA77  # odd, so multiplication by them loses nothing


def stream(seed: int, policy: Policy, name: str = "") -> Key[Array, ""]:
    """The key of a model's answers.

    Args:
        seed: of all draws.
        policy: what answers.
        name: what the model is called among those it is compared to.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, _fingerprint(policy.arrays()))


@jax.jit
def _fingerprint(weights: Mapping[str, Array]) -> UInt32[Array, ""]:
    """A number of the weights' bits and places; integers, so it is the same however they lie on a mesh."""
    total = jnp.zeros((), jnp.uint32)
    for name in sorted(weights):
        array = weights[name]
        unsigned = jnp.dtype(f"uint{8 * array.dtype.itemsize}")
        bits = jax.lax.bitcast_convert_type(array, unsigned).astype(jnp.uint32)
        for axis in range(array.ndim):
            place = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
            bits = _stirred(bits ^ (place + jnp.uint32(1)) * jnp.uint32(MIX))
        total = _stirred(total ^ jnp.uint32(zlib.crc32(name.encode()))) + jnp.sum(bits, dtype=jnp.uint32)
    return total


def _stirred(bits: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """Every bit of a number changes about half of those of the result."""
    bits = (bits ^ (bits >> jnp.uint32(16))) * jnp.uint32(ROUND)
    bits = (bits ^ (bits >> jnp.uint32(13))) * jnp.uint32(MIX)
    return bits ^ (bits >> jnp.uint32(16))


def unlike_recommended(folder: str | Path | None, used: Sampling) -> str | None:
    """A sentence on what a checkpoint recommends and what is used instead; None where that is the same.

    Raises:
        BridgeError: the recommendation cannot be read.
    """
    path = None if folder is None else Path(folder) / FILE
    if path is None or not path.exists():
        return None
    found = read_json(path)
    recommended = {name: found[name] for name, neutral in NEUTRAL.items() if found.get(name) not in neutral}
    met = {"temperature": used.temperature, "top_p": used.top_p, "top_k": used.top_k}
    met["do_sample"] = used.temperature > 0
    if all(met.get(name) == value for name, value in recommended.items()):
        return None
    wanted = ", ".join(f"{name} {str(value).lower()}" for name, value in recommended.items())
    taken = [f"temperature {used.temperature:g}"]
    limits = {"top_p": used.top_p, "top_k": used.top_k}
    taken += [f"{name} {value:g}" for name, value in limits.items() if value is not None]
    plain = taken == ["temperature 1"]
    why = ": the policy itself, which is what training samples" if plain else ", as the options say"
    return f"{FILE} recommends {wanted}; answers are drawn with {', '.join(taken)}{why}"
