"""The laboratory: many runs of methods on matrix games as one compiled batch, measured exactly at chosen iterations.

`mmd.solve` ends with a certificate; here the whole course of a method is wanted, over seeds, games and settings at
once. A batch is a list of cases (game, algorithm) that have the same shape and differ in numbers only: payoffs, step
sizes, seeds. It is one `vmap`; the time loop is a scan over the marks. Gaps are NashConv, of the last and of the
average iterate, from exact payoffs whatever the feedback was.

Letters: C cases; R records; S0, S1 sequences of the row and the column player.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import ITERATES, LAST, Algorithm, Candidate, HostAlgorithm, asked, resolved
from mmd.feedback import Exact
from mmd.game.game import Game, GameError, HostPair, Pair
from mmd.game.payoff import Dense
from mmd.measure.equilibria import OptimalSet

Case = tuple[Game, Algorithm]
NEVER = -1
METHODS = ("self-play", "omwu", "inpo", "nash-md", "egpo", "mpo", "gabp", "asymmetric")  # what a figure can still show


class Records(NamedTuple):
    """What was measured, at R iterations of C cases.

    Attributes:
        iteration: [R] iterations done.
        gradient_evaluations: evaluations of both payoff gradients.
        preference_calls: comparisons that were asked for.
        last: NashConv of the last iterate, in payoff units; of the best policy so far where a method returns that.
        average: NashConv of the average iterate; NaN where a method keeps none.
        log_policy: [S0], [S1] the iterate that `last` is about.
        reached: evaluations until the better of `last` and `average` was first at the target; NEVER if it was not.
    """

    iteration: Int[np.ndarray, " R"]
    gradient_evaluations: Int[np.ndarray, "C R"]
    preference_calls: Int[np.ndarray, "C R"]
    last: Float[np.ndarray, "C R"]
    average: Float[np.ndarray, "C R"]
    log_policy: tuple[Float[np.ndarray, "C R S0"], Float[np.ndarray, "C R S1"]]
    reached: Int[np.ndarray, " C"]

    def distances(self, optimal: Sequence[OptimalSet]) -> Float[np.ndarray, "C R"]:
        """KL from the nearest equilibrium to the iterate, both players' summed, given their optimal sets."""
        found = np.zeros(self.last.shape)
        for player, log in zip(optimal, self.log_policy, strict=True):
            for at in np.ndindex(found.shape):
                found[at] += player.distance(np.exp(log[at][1:]))
        return found


class Course(NamedTuple):
    """A record of one case, while it is traced."""

    gradient_evaluations: Int[Array, ""]
    preference_calls: Int[Array, ""]
    last: Float[Array, ""]
    average: Float[Array, ""]
    log_policy: Pair


def marks(most: int, per_decade: int = 12) -> Int[np.ndarray, " R"]:
    """Iterations 0, 1, ... up to `most`, evenly spaced on a logarithmic axis.

    Args:
        most: the last one, at least 1.
        per_decade: how many there are from t to 10 t.
    """
    points = np.geomspace(1, most, 1 + int(np.ceil(per_decade * np.log10(max(most, 2)))))
    return np.unique(np.concatenate([[0], np.round(points).astype(int)]))


def run(
    cases: Sequence[Case],
    at: Int[np.ndarray, " R"],
    start: HostPair | None = None,
    *,
    target: float | None = None,
) -> Records:
    """Run every case to the last mark and measure it at each.

    Args:
        cases: matrix games of one shape, algorithms of one kind and of one static setting; defaults are filled in.
        at: increasing iterations, 0 for the start.
        start: first log-policies of all cases; uniform if None.
        target: NashConv whose first occurrence is looked for, after every iteration, which then costs a measurement.

    Raises:
        GameError: a method is not defined on its game, or the cases are not alike.
    """
    with jax.enable_x64(True):
        base, payoffs, methods, calls = _batch(cases)
        begin = _start(base, start)
        steps = jnp.asarray(np.diff(at, prepend=0))

        def course(payoff: Array, method: Any, calls: Array) -> tuple[Course, Array]:
            game = replace(base, payoff=Dense(payoff))

            def onward(_: Array, carried: tuple[Any, Array]) -> tuple[Any, Array]:
                state = method.step(game, carried[0])
                return state, carried[1] if target is None else _noted(game, method, (state, carried[1]), target)

            def until(carried: tuple[Any, Array], count: Array) -> tuple[tuple[Any, Array], Course]:
                carried = jax.lax.fori_loop(0, count, onward, carried)
                return carried, _measured(game, method, carried[0], calls)

            state = method.init(game, begin)
            never = jnp.full((), NEVER, int)
            noted = never if target is None else _noted(game, method, (state, never), target)
            (_, noted), found = jax.lax.scan(until, (state, noted), steps)
            return found, noted

        found, reached = jax.device_get(jax.jit(jax.vmap(course))(payoffs, methods, calls))
    return Records(np.asarray(at), *found, reached=reached)


def _noted(game: Game, method: Any, carried: tuple[Any, Array], target: float) -> Array:
    """The evaluations after which the better of last and average iterate was first at the target."""
    state, noted = carried
    average = method.diagnostics(game, state).average_nash_conv
    there = jnp.fmin(method.policy(game, state).nash_conv, average) <= target
    return jnp.where((noted == NEVER) & there, state.gradient_evaluations, noted)


def study(
    game: Game, methods: Mapping[str, Algorithm], seeds: int, at: Int[np.ndarray, " R"], start: HostPair | None = None
) -> dict[str, Records]:
    """Every method's course on one game, over seeds where its feedback is noisy.

    Args:
        game: a matrix game.
        methods: label -> algorithm.
        seeds: how many, 0, 1, ...; a method without noise runs once.
        at, start: as for `run`.

    Raises:
        GameError: as for `run`; fewer than one seed.
    """
    if seeds < 1:
        raise GameError(f"expected at least 1 seed, got {seeds}")
    return {
        label: run([(game, one) for one in seeded(algorithm, seeds)], at, start) for label, algorithm in methods.items()
    }


def seeded(algorithm: Algorithm, seeds: int) -> list[Algorithm]:
    """The algorithm with seeds 0, 1, ..., or once where nothing is random."""
    exact = isinstance(getattr(algorithm, "feedback", Exact()), Exact)
    return [algorithm] if exact else [_with(algorithm, seed=seed) for seed in range(seeds)]


def batchable(algorithm: Algorithm | HostAlgorithm) -> Algorithm:
    """The algorithm, if it can be one of a compiled batch; of `auto` the compiled one.

    Raises:
        GameError: it has its own loop, on the host.
    """
    if isinstance(algorithm, HostAlgorithm):
        raise GameError(f"{algorithm.name} runs on the host, and the laboratory compiles its methods: use mmd compare")
    return algorithm.steps if isinstance(algorithm, Auto) else algorithm


def measurable(algorithm: Algorithm) -> Algorithm:
    """The same algorithm returning its last iterate, where it has a choice: then its average is a diagnostic."""
    chooses = any(f.name == "iterate" for f in fields(cast("Any", algorithm)))
    return _with(algorithm, iterate=ITERATES[LAST]) if chooses else algorithm


def _with(algorithm: Algorithm, **changed: Any) -> Algorithm:
    return replace(cast("Any", algorithm), **changed)


def _batch(cases: Sequence[Case]) -> tuple[Game, Array, Any, Array]:
    """The first game, and all cases' payoffs, algorithms and comparisons an evaluation, stacked."""
    if not cases:
        raise GameError("expected at least one case of a game and an algorithm")
    for game, _ in cases:
        if not game.is_matrix:
            raise GameError(f"the laboratory works on matrix games, and {game.name} is a tree: use mmd compare")
    given = [(measurable(batchable(algorithm)), game) for game, algorithm in cases]
    methods = [resolved(*given[0]), *(asked(one, "resolve", one.resolve, game) for one, game in given[1:])]
    shapes = {
        (jax.tree.structure(method), game.row.n_sequences, game.column.n_sequences)
        for (game, _), method in zip(cases, methods, strict=True)
    }
    if len(shapes) > 1:
        raise GameError("expected cases of one shape and one kind of algorithm, got several: run them one by one")
    payoffs = jnp.asarray(np.stack([_matrix(game) for game, _ in cases]))
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *methods)
    calls = jnp.asarray([Exact().calls(game) for game, _ in cases])
    return cases[0][0], payoffs, stacked, calls


def _matrix(game: Game) -> Float[np.ndarray, "S0 S1"]:
    matrix = np.zeros((game.row.n_sequences, game.column.n_sequences))
    rows, columns, values = game.payoff.entries()
    matrix[rows, columns] = values
    return matrix


def _start(game: Game, start: HostPair | None) -> Pair:
    logs = (player.uniform() for player in game.players) if start is None else start
    return tuple(jnp.asarray(log) for log in logs)


def _measured(game: Game, method: Any, state: Any, calls: Array) -> Course:
    candidate: Candidate = method.policy(game, state)
    asked = getattr(state, "preference_calls", state.gradient_evaluations * calls)
    average = method.diagnostics(game, state).average_nash_conv
    return Course(state.gradient_evaluations, asked, candidate.nash_conv, average, candidate.log_policy)
