"""The contract between an algorithm and `mmd.solver.solve`: init, step, policy.

An algorithm is a frozen dataclass whose numbers (eta, alpha, ...) are pytree leaves, so that one compiled program
serves a sweep over them and a sweep can be a `vmap`. Everything that changes from step to step is in the state that
`init` and `step` return; everything worth reporting is computed from the state by `policy` and `diagnostics` and lives
in the trace.
All four are traceable; `resolve` runs on the host before tracing.

Each algorithm is one file in `mmd/algorithms/`, whose name is what `mmd solve --algorithm` accepts and whose attribute
`ALGORITHM` is the class.
"""

from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.game import Game, Pair

ITERATES = ("last", "average", "polished")
LAST, AVERAGE = 0, 1


class Candidate(NamedTuple):
    """The policy that an algorithm would return now.

    Attributes:
        log_policy: log behavioural policies of both players.
        nash_conv: its NashConv as the algorithm measured it (the certificate is computed elsewhere).
        value: the row player's payoff under it, without the game's offset.
        iterate: index into `ITERATES`.
    """

    log_policy: Pair
    nash_conv: Float[Array, ""]
    value: Float[Array, ""]
    iterate: Int[Array, ""]


def smaller(a: Candidate, b: Candidate) -> Candidate:
    """The candidate with the smaller NashConv; b in a tie, or where a is not a number."""
    return jax.tree.map(lambda x, y: jnp.where(a.nash_conv < b.nash_conv, x, y), a, b)


class Diagnostics(NamedTuple):
    """Further numbers for the trace; NaN where an algorithm has no such thing.

    Attributes:
        regularized_gap: duality gap of the regularised game that the algorithm is solving now.
        average_nash_conv: NashConv of the average iterate.
    """

    regularized_gap: Float[Array, ""]
    average_nash_conv: Float[Array, ""]


@runtime_checkable
class State(Protocol):
    """What every algorithm's state carries; the rest is its own."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]


@runtime_checkable
class Algorithm(Protocol):
    """An iterative method for two-player zero-sum games."""

    name: ClassVar[str]
    keeps_best: ClassVar[bool]  # whether the best policy measured so far is returned, or the newest

    def resolve(self, game: Game) -> "Algorithm":
        """The same algorithm with every default that depends on the game filled in (host code).

        Raises:
            GameError: the algorithm is not defined on this game; the message says why.
        """
        ...

    def init(self, game: Game, log_policy: Pair) -> Any:
        """The state before the first step, at a pair of policies with full support."""
        ...

    def step(self, game: Game, state: Any) -> Any:
        """One iteration."""
        ...

    def policy(self, game: Game, state: Any) -> Candidate:
        """The policy that would be returned now."""
        ...

    def diagnostics(self, game: Game, state: Any) -> Diagnostics:
        """Further numbers for the trace."""
        ...


def describe(algorithm: Algorithm) -> dict[str, Any]:
    """Name and hyper-parameters of an algorithm, as plain numbers and strings.

    What `resolve` derives from the game alone, a field with the metadata "derived", is left out.
    """
    names = (f.name for f in fields(cast("Any", algorithm)) if not f.metadata.get("derived"))
    return {"name": algorithm.name, "keeps_best": algorithm.keeps_best} | {
        name: _plain(getattr(algorithm, name)) for name in names
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if np.ndim(value) == 0:
        return np.asarray(value).item()
    return "a given policy"
