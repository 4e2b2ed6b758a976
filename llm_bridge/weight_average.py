"""The magnet of a network: a set of weights that is copied from the policy's, or drifts after them.

`mmd.Fixed`, `mmd.Refresh` and `mmd.MovingAverage` mean the same as in `mmd.solve`, a step being a round. A table of
probabilities can average logarithms; a network averages weights, theta_mu <- (1 - rate) theta_mu + rate theta (Polyak
and Juditsky 1992). Averaging the factors A and B of an adapter would not average the map A B, so adapters are copied
only.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int

import mmd
from llm_bridge import sharding
from llm_bridge.architecture import BridgeError
from llm_bridge.decoder import Weights
from llm_bridge.ranges import require
from llm_bridge.train_state import ADAPTER, TrainState


def check(magnet: Any, weights: Weights) -> None:
    """That a magnet can be a set of these weights.

    Raises:
        BridgeError: it cannot; the message says why.
    """
    if isinstance(magnet, mmd.Refresh) and magnet.every is None:
        raise BridgeError("expected a period in rounds, such as mmd.Refresh(every=40); its measured rule needs a table")
    if not isinstance(magnet, mmd.Fixed | mmd.Refresh | mmd.MovingAverage | mmd.Halpern):
        raise BridgeError(f"expected a magnet such as mmd.MovingAverage(rate=0.025), got {magnet!r}")
    if not (isinstance(magnet.center, str) and magnet.center == type(magnet)().center):
        raise BridgeError(f"a language model's magnet begins where its policy does, expected no center, got {magnet!r}")
    for name in ("every", "rate", "strength", "power"):
        if hasattr(magnet, name) and not isinstance(value := getattr(magnet, name), Tracer):
            require(name, value, optional=name == "power")
    if isinstance(magnet, mmd.MovingAverage) and any(ADAPTER in name for name in weights):
        raise BridgeError("the average of adapters' factors is not that of their maps, expected mmd.Refresh(every=40)")


def moved(magnet: Any, state: TrainState) -> tuple[Weights, Int[Array, ""]]:
    """The magnet and its age after a round whose updates are done; its buffers are used up."""
    return sharding.in_place(_moved, None, state.magnet, magnet, state.weights, state.age + 1)


def _moved(
    _: None, place: Weights, magnet: Any, weights: Weights, age: Int[Array, ""]
) -> tuple[Weights, Int[Array, ""]]:
    nowhere = jnp.zeros((), jnp.float32)
    jump = magnet.moves(age, nowhere, nowhere)
    rate = jnp.asarray(magnet.share(age) if isinstance(magnet, mmd.MovingAverage) else 0.0, jnp.float32)
    followed = jax.tree.map(lambda mu, theta: jnp.where(jump, theta, mu + rate * (theta - mu)), place, weights)
    return followed, jnp.where(jump, 0, age).astype(jnp.int32)
