"""The compiled side of the time loop: the first state, and a chunk of iterations with its rows of the trace."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.algorithms.contract import Algorithm, Candidate, smaller
from mmd.game.game import Game, Pair
from mmd.game.sharding import settled

CHUNK_ROWS = 256


class Goal(NamedTuple):
    """Where a chunk ends: NashConv, or a regularized gap, of at most so much; -inf for never."""

    nash_conv: Float[Array | np.ndarray, ""] | float
    regularized_gap: Float[Array | np.ndarray, ""] | float


class Rows(NamedTuple):
    """A chunk's part of the trace: the first `filled` of R rows are filled."""

    filled: Int[Array, ""]
    work: Int[Array, "R 2"]  # iteration, gradient evaluations
    numbers: Float[Array, "R 4"]  # NashConv, regularized gap, value, NashConv of the average


def unmeasured(log_policy: Any, dtype: np.dtype) -> Candidate:
    """A policy as a candidate that any measured one is better than; on the host."""
    unknown: Any = (np.array(np.inf, dtype), np.array(np.inf, dtype), np.zeros((), int))
    return Candidate(log_policy, *unknown)


@jax.jit
def init(algorithm: Algorithm, game: Game, log_policy: Pair) -> Any:
    """The algorithm's first state."""
    return settled(game, algorithm.init(game, log_policy))


@jax.jit
def advance(
    algorithm: Algorithm,
    game: Game,
    state: Any,
    candidate: Candidate,
    goal: Goal,
    max_iterations: Int[Array, ""] | int,
    check_every: Int[Array, ""] | int,
    rows_wanted: Int[Array, ""] | int,
) -> tuple[Any, Candidate, Rows]:
    """Iterate, with a row at multiples of `check_every`, until a goal or the limit is reached, or the rows are full."""

    def unfinished(carry: tuple[Any, Candidate, Rows]) -> Array:
        state, _, rows = carry
        nash_conv, gap = rows.numbers[rows.filled - 1, :2]
        arrived = (nash_conv <= goal.nash_conv) | (gap <= goal.regularized_gap)
        going = ~arrived & jnp.isfinite(nash_conv) & (state.iteration < max_iterations)
        return ((rows.filled == 0) | going) & (rows.filled < rows_wanted)

    def check(carry: tuple[Any, Candidate, Rows]) -> tuple[Any, Candidate, Rows]:
        state, so_far, rows = carry
        most = max_iterations - state.iteration  # beside what is left, sums of 32 bits would overflow
        until = state.iteration + jnp.minimum(check_every - state.iteration % check_every, most)
        state = jax.lax.while_loop(
            lambda s: s.iteration < until, lambda s: settled(game, algorithm.step(game, s)), state
        )
        newest, extra = algorithm.policy(game, state), algorithm.diagnostics(game, state)
        newest = jax.tree.map(
            lambda new, old: jnp.asarray(new).astype(old.dtype), newest, so_far
        )  # no weak types: one program
        newest = smaller(newest, so_far) if algorithm.keeps_best else newest
        numbers = (newest.nash_conv, extra.regularized_gap, newest.value, extra.average_nash_conv)
        candidate = jax.tree.map(lambda new, old: jnp.where(jnp.isfinite(newest.nash_conv), new, old), newest, so_far)
        work = jnp.stack([state.iteration, state.gradient_evaluations])
        at = rows.filled
        rows = Rows(at + 1, rows.work.at[at].set(work), rows.numbers.at[at].set(jnp.stack(numbers)))
        return settled(game, (state, candidate, rows))

    empty = Rows(
        jnp.zeros((), int), jnp.zeros((CHUNK_ROWS, 2), int), jnp.zeros((CHUNK_ROWS, 4), candidate.nash_conv.dtype)
    )
    return jax.lax.while_loop(unfinished, check, (state, candidate, empty))
