"""Where a training run stands, as arrays: a copy of the leaves is a checkpoint, and the same rounds follow from it.

Only what is trained is kept more than once (policy, magnet, start, optimizer). With adapters (LoRA) that is the
adapters, and the base is there once, shared with the policy that was given.

What is trained is float32 whatever the policy's precision is; the decoder goes on computing in the policy's. An average
that moves by a fortieth a round, or a step of 1e-6, would be rounded away in bfloat16.
"""

from dataclasses import dataclass, field
from math import hypot
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt32

from llm_bridge.model import sharding
from llm_bridge.model.network import Network, Weights, is_trained
from llm_bridge.policy.policy import Origin, Policy


class Counters(NamedTuple):
    """Numbers that a run carries along.

    Attributes:
        skipped: updates that were not finite and did not happen.
        skipped_in_a_row: how many of them since the newest good one.
        first_entropy: of the first round, nats a token; NaN before it.
    """

    skipped: Int[Array, ""]
    skipped_in_a_row: Int[Array, ""]
    first_entropy: Float[Array, ""]


@dataclass(frozen=True)
class Frame:
    """What does not change in a run and is no array.

    Attributes:
        decoder: as it is trained.
        given: the decoder of the given policy.
        origin: of the given policy.
        dtypes: names of the trained weights, and the precision in which each was given.
        generator: of random keys, as `jax.random.key_impl` names it.
    """

    decoder: Network
    given: Network
    origin: Origin
    dtypes: tuple[tuple[str, str], ...]
    generator: str


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class TrainState:
    """Where a training run stands after some rounds; a pytree. All weights in it are float32 except `base`.

    Attributes:
        weights: what is trained.
        magnet: the same weights where the magnet is; empty for methods without one.
        initial: the same weights where the run began; empty where `Method.watch_start` is off.
        base: all other weights; without adapters, only what is no weight. They never change and need not be saved.
        optimizer: the optimizer's state.
        round: number of rounds that are done.
        age: rounds that the magnet counts: all that are done; in a run that version 0.1 began, those since the magnet
            was last copied.
        key: data of the random key; a round's draws depend on it and on the round's number alone.
        counters: skipped updates, and the first round's entropy.
        frame: decoders, origin and precisions, which do not change; static.
        memory: responses of earlier rounds (`llm_bridge.train.replay.Memory`); None where none are learned from again.
    """

    weights: Weights
    magnet: Weights
    initial: Weights
    base: Weights
    optimizer: Any
    round: Int[Array, ""]
    age: Int[Array, ""]
    key: UInt32[Array, " _"]
    counters: Counters
    frame: Frame = field(metadata={"static": True})
    memory: Any = None

    def __repr__(self) -> str:
        trained, given = (sum(array.size for array in part.values()) for part in (self.weights, self.base))
        return f"TrainState(after {self.round} rounds, {trained:,} trained weights, {given:,} others)"

    def whole(self, weights: Weights) -> Weights:
        """All weights of the decoder: the given trained ones, and the base."""
        return self.base | weights

    def round_key(self) -> Key[Array, ""]:
        """The key of this round's draws."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key, impl=self.frame.generator), self.round)

    def policy(self, weights: Weights) -> Policy:
        """A policy with these trained weights, copied in the given policy's precision; `base` is shared, not copied."""
        arrays = {name: jnp.copy(weights[name].astype(dtype)) for name, dtype in self.frame.dtypes}
        return Policy(self.frame.given, self.base | arrays, self.frame.origin)

    def start(self, given: Policy | None = None) -> Weights:
        """The trained weights where the run began; empty where nobody has them any more.

        Args:
            given: the policy that the run began with, asked where `initial` is not kept.
        """
        if self.initial or given is None:
            return self.initial
        arrays = given.arrays()
        alive = all(name in arrays and not arrays[name].is_deleted() for name in self.weights)
        return {name: arrays[name] for name in self.weights} if alive else {}

    def is_start(self, policy: Policy, given: Policy | None = None) -> bool:
        """Whether a policy of this run has the weights of the start, each rounded to the precision it was given in.

        Args:
            policy: which `policy` of this class has made.
            given: the policy that the run began with, asked where `initial` is not kept. Where the start is not known
                at all, the answer is False.
        """
        found, start = policy.arrays(), self.start(given)
        same = (jnp.array_equal(found[name], start[name].astype(dtype)) for name, dtype in self.frame.dtypes)
        return bool(start) and all(map(bool, same))

    def rounded(self, weights: Weights, given: Policy | None = None) -> tuple[float, float] | None:
        """How far the given precision moves trained weights, and how far they are from the start: Frobenius norms.

        None where the start is not known (see `start`), or the precision is that of training.
        """
        start, exact = self.start(given), all(dtype == "float32" for _, dtype in self.frame.dtypes)
        if not start or exact:
            return None
        rounded = {name: weights[name].astype(dtype) for name, dtype in self.frame.dtypes}
        return distance(weights, rounded), distance(weights, start)


def distance(some: Weights, others: Weights) -> float:
    """Frobenius norm of the difference of two sets of weights, in float32."""
    pairs = ((array.astype(jnp.float32), others[name].astype(jnp.float32)) for name, array in some.items())
    return hypot(*(float(jnp.linalg.norm((one - other).ravel())) for one, other in pairs))


def begin(policy: Policy, key: Key[Array, ""], *, magnet: bool, initial: bool) -> TrainState:
    """The state before the first round, without an optimizer's yet.

    Args:
        policy: where the run begins; its adapters are trained if it has any, otherwise all weights.
        key: of all draws.
        magnet: whether there is one; it begins where the policy is.
        initial: whether to keep the weights of the start.
    """
    arrays = policy.arrays()
    trained = {name: array for name, array in arrays.items() if is_trained(name, adapted=policy.is_adapted)}

    def copied() -> Weights:
        return {name: jnp.copy(array.astype(jnp.float32)) for name, array in trained.items()}

    def number(value: Any) -> Array:
        return sharding.put(value, sharding.whole(policy.mesh))

    return TrainState(
        weights=copied(),
        magnet=copied() if magnet else {},
        initial=copied() if initial else {},
        base={name: array for name, array in arrays.items() if name not in trained},
        optimizer=(),
        round=number(np.int32(0)),
        age=number(np.int32(0)),
        key=number(np.asarray(jax.random.key_data(key))),
        counters=Counters(number(np.int32(0)), number(np.int32(0)), number(np.float32(np.nan))),
        frame=Frame(
            decoder=policy.decoder.fixed(arrays),
            given=policy.decoder,
            origin=policy.origin,
            dtypes=tuple((name, array.dtype.name) for name, array in trained.items()),
            generator=str(jax.random.key_impl(key)),
        ),
    )
