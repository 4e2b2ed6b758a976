"""The magnet of a network: a set of weights that is copied from the policy's, or drifts after them.

The magnets of `mmd` mean the same as in `mmd.solve`, a step being a round: `alpha` is the pull in it, `share` how far
the magnet goes after it. A table of probabilities can average logarithms; a network averages weights, theta_mu <-
(1 - share) theta_mu + share theta (Polyak and Juditsky 1992).

Of an adapter the factors A and B are averaged, which keeps its rank. Its map A B is then not quite the average of the
maps: with dA and dB, by which the policy's factors differ from the magnet's, the average of the maps is more by
share (1 - share) dA dB, which is of second order in what a round moves.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int

import mmd
from llm_bridge.model import sharding
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.network import Weights
from llm_bridge.model.ranges import require
from llm_bridge.train.train_state import TrainState


def check(magnet: Any) -> None:
    """That a magnet can be a set of weights.

    Raises:
        BridgeError: it cannot; the message says why.
    """
    if not isinstance(magnet, mmd.Magnet):
        raise BridgeError(f"expected a magnet such as mmd.MovingAverage(rate=0.025), got {magnet!r}")
    try:
        magnet.check_answers()
    except mmd.GameError as error:
        raise BridgeError(str(error)) from error
    if magnet.measures:
        raise BridgeError("expected a period in rounds, such as mmd.Refresh(every=40); its measured rule needs a table")
    if not (isinstance(magnet.center, str) and magnet.center == type(magnet)().center):
        raise BridgeError(f"a language model's magnet begins where its policy does, expected no center, got {magnet!r}")
    for name in ("every", "rate", "strength", "power"):
        if hasattr(magnet, name) and not isinstance(value := getattr(magnet, name), Tracer):
            require(name, value, optional=name == "power")


def leaves_the_start(magnet: mmd.Magnet, rounds: int) -> bool:
    """Whether a magnet is elsewhere than at the start after so many rounds."""
    k = jnp.arange(1, rounds + 1, dtype=jnp.int32)
    return magnet.travels and bool(jnp.any(jax.vmap(lambda k: jnp.asarray(magnet.share(k, None)))(k) > 0))


def moved(magnet: mmd.Magnet, state: TrainState) -> Weights:
    """The magnet after a round whose updates are done; its buffers are used up."""
    program = sharding.program(_moved, None, state.magnet)
    return program(state.magnet, magnet, state.weights, state.age + 1)[0]


def _moved(_: None, place: Weights, magnet: mmd.Magnet, weights: Weights, k: Int[Array, ""]) -> tuple[Weights, None]:
    share = jnp.asarray(magnet.share(k, None)).astype(jnp.float32)

    def between(mu: Array, theta: Array) -> Array:
        return jnp.where(share == 0, mu, jnp.where(share == 1, theta, mu + share * (theta - mu)))

    return jax.tree.map(between, place, weights), None
