"""A run recorded step by step: gaps, the distance to an equilibrium and, on request, the iterates themselves.

`mmd.solve` wants a certificate and checks now and then; who studies convergence wants every step of a run, on a matrix
or a tree, and KL(z*, z_k) from the equilibrium that it goes to, which a solver does not know. `record` finds z* first,
by code that the run does not share: the regularized equilibrium by `mmd.lab.quantal`, a Nash equilibrium by linear
programming. `mmd.linear_rate` and `mmd.plot_convergence` take what it returns.
"""

import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.algorithms.contract import ITERATES, Algorithm, HostAlgorithm, describe, resolved
from mmd.algorithms.magnetic import MagneticMirrorDescent
from mmd.game.game import Description, Game, GameError, HostPair, Pair, as_game
from mmd.game.policy import Policy, fitting, full_support
from mmd.host import environment
from mmd.lab.laboratory import batchable, measurable
from mmd.lab.quantal import qre
from mmd.measure import metrics, run_directory, theory
from mmd.measure.equilibria import OptimalSet
from mmd.measure.exact import solve_exactly
from mmd.measure.figure import Curve
from mmd.measure.solution import TRACE_COLUMNS, Trace

ROWS = 256  # in one call of the compiled program, between which Ctrl-C is heard
ARRIVED = 1e-16  # of the first KL: a run to a regularized equilibrium has arrived
MOST = 100_000  # iterations, where the theorem asks for more
USUAL = 1_000  # iterations, where no theorem says how many
REGULARIZED, NASH = "regularized", "nash"
REGULARIZED_NAME = "the regularized equilibrium"
NASH_NAME = "a Nash equilibrium, by linear programming"
NEAREST_NAME = "the nearest Nash equilibrium"


@dataclass(frozen=True, repr=False)
class Recording:
    """A recorded run.

    Attributes:
        game: the game.
        algorithm: name and resolved numbers.
        reference: what KL is measured from, in words.
        equilibrium: the same as a policy; None where it is the nearest of many.
        iterate: which iterate is measured, "last" or "average".
        trace: a row for the start and for every `every`-th iteration. Its columns are those of a solution's trace, with
            seconds that are NaN, and "kl", KL(z*, z_k) summed over both players.
        log_policies: [R, S0], [R, S1] the iterates; None unless they were asked for.
    """

    game: Game
    algorithm: dict[str, Any]
    reference: str
    equilibrium: Policy | None
    iterate: str
    trace: Trace
    log_policies: tuple[Float[np.ndarray, "R S0"], Float[np.ndarray, "R S1"]] | None = field(default=None)

    def __repr__(self) -> str:
        first, last = self.trace["kl"][[0, -1]]
        ran = f"{self.algorithm['name']} on {self.game.name}, {len(self.trace)} rows"
        return f"Recording({ran}: KL to {self.reference} from {first:.3g} to {last:.3g})"

    @property
    def method(self) -> str:
        """How a figure names it."""
        return self.algorithm["name"]

    @property
    def proven_factor(self) -> float | None:
        """The factor of an iteration by which the theorem says that KL falls, where KL is to that equilibrium."""
        return theory.proven_factor(self.game, self.algorithm) if self.reference == REGULARIZED_NAME else None

    @property
    def curve(self) -> Curve:
        """The run as a line of a figure."""
        about, end = self.game.description, float(self.trace["exploitability"][-1])
        known = (about.name, about.payoff_range, 0.0, self.iterate, end, self.algorithm)
        return Curve(*known, self.trace.columns, self.proven_factor)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder that `mmd plot` draws: `recording.json` and `trace.csv`, which has a column `kl`.

        Raises:
            OutputError: it cannot be written.
        """
        folder = run_directory.prepare(path)
        run_directory.write_trace(self.trace, folder / "trace.csv")
        known = self.curve._asdict()
        content = {name: known[name] for name in known if name not in ("trace", "proven")}
        more = {"proven_factor": self.proven_factor, "reference": self.reference, "rows": len(self.trace)}
        about = {"schema_version": run_directory.SCHEMA_VERSION, "versions": environment.versions()}
        run_directory.write_json(about | content | more, folder / run_directory.RECORDING)


class _Reference(NamedTuple):
    """What KL is measured from: a policy, or the nearest strategies of two sets."""

    name: str
    log_policy: HostPair | None
    sets: tuple[OptimalSet, ...] = ()


def record(
    game: Game | Any,
    algorithm: Algorithm | HostAlgorithm,
    iterations: int | None = None,
    *,
    to: Any = None,
    every: int = 1,
    start: Any = None,
    iterates: bool = False,
) -> Recording:
    """Run an algorithm and write down its course, with KL(z*, z_k) to an equilibrium z*.

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them.
        algorithm: a traced one (`mmd.Algorithm`).
        iterations: how many; if None as many as the theorem needs for 1e-16 of the first KL, at most 100,000, and
            1,000 where it says nothing. A run to a regularized equilibrium ends once it has arrived there.
        to: a policy, "regularized" or "nash". "regularized" is the equilibrium of the game that `mmd` with a magnet
            that stays is solving. "nash" is one of the original game, of a matrix the nearest one. If None,
            "regularized" where there is one, else "nash".
        every: iterations from one row to the next.
        start: first policy, with full support; uniform if None.
        iterates: whether to keep them.

    Raises:
        GameError: there is no such game, or a number is out of range. Or the algorithm runs on the host, is not defined
            on this game, or has no regularized equilibrium.
    """
    game = as_game(game)
    if isinstance(algorithm, type) or not isinstance(algorithm, Algorithm | HostAlgorithm):
        raise GameError(f"expected an algorithm such as mmd.MagneticMirrorDescent(), got {algorithm!r}")
    if every < 1 or not (iterations is None or iterations >= 1):
        raise GameError(f"expected every >= 1 and iterations >= 1, got {every} and {iterations}")
    algorithm = resolved(measurable(batchable(algorithm)), game)
    begin = tuple(p.uniform() for p in game.players) if start is None else full_support(game, start, "start")
    reference = _reference(game, algorithm, to)
    with jax.enable_x64(True):
        most = _enough(game, algorithm, iterations, reference)
        course: Any = _followed(game, algorithm, reference, begin, (most, every))
    policy = None if reference.log_policy is None else Policy.from_log(game, reference.log_policy)
    measured = (ITERATES[course.iterate[-1]], _trace(game, course), course.log_policy if iterates else None)
    return Recording(game, describe(algorithm), reference.name, policy, *measured)


def _reference(game: Game, algorithm: Algorithm, to: Any) -> _Reference:
    """What KL is measured from.

    Raises:
        GameError: there is no such thing.
    """
    descent = algorithm if isinstance(algorithm, MagneticMirrorDescent) and algorithm.alpha > 0 else None
    if descent is not None and (descent.magnet.travels or not descent.magnet.regularizes):
        descent = None
    to = (NASH if descent is None else REGULARIZED) if to is None else to
    if not isinstance(to, str):
        return _Reference("the given policy", fitting(game, to, "policy that KL is measured from"))
    if to == REGULARIZED and descent is not None:
        return _Reference(REGULARIZED_NAME, _regularized(game, descent))
    if to == NASH:
        sets = tuple(OptimalSet.of(game, player) for player in (0, 1)) if game.is_matrix else ()
        if sets and not all(one.unique for one in sets):
            return _Reference(NEAREST_NAME, None, sets)
        with np.errstate(divide="ignore"):
            row, column = (np.log(p) for p in solve_exactly(game).probabilities)
        return _Reference(NASH_NAME, (row, column))
    if to == REGULARIZED:
        raise GameError(f"{algorithm.name} as given has no regularized equilibrium: expected mmd with a fixed magnet")
    raise GameError(f"expected KL to 'regularized', 'nash' or a policy, got {to!r}")


def _regularized(game: Game, algorithm: MagneticMirrorDescent) -> HostPair:
    """The regularized equilibrium, as both players' regularized best responses to what `qre` has found.

    `qre` is right to an absolute 1e-10 of each probability; a best response is so relative to the probability, and KL
    needs that.

    Raises:
        GameError: it was not reached.
    """
    center = algorithm.magnet.center
    found = qre(game, float(algorithm.alpha), center=center)
    if not found.converged:
        raise GameError(f"the regularized equilibrium for alpha {algorithm.alpha:g} was not found: {found.status}")
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        log_policy = tuple(jnp.asarray(np.log(p)) for p in found.policy.probabilities)
        at = metrics.profile(game.astype(jnp.float64), log_policy)
        each = zip(game.players, at.gradient, algorithm.magnet.start(game), strict=True)
        row, column = (
            np.asarray(metrics.regularized_best_response(player, gradient, jnp.asarray(log), algorithm.alpha)[1])
            for player, gradient, log in each
        )
    return row, column


def _enough(game: Game, algorithm: Algorithm, iterations: int | None, reference: _Reference) -> int:
    """How many iterations."""
    factor = theory.proven_factor(game, describe(algorithm)) if reference.name == REGULARIZED_NAME else None
    if iterations is not None or factor is None:
        return USUAL if iterations is None else iterations
    return int(min(np.ceil(np.log(ARRIVED) / np.log(factor)), MOST))


class _Course(NamedTuple):
    """What is measured at a row."""

    iteration: Int[Array, ""]
    gradient_evaluations: Int[Array, ""]
    nash_conv: Float[Array, ""]
    value: Float[Array, ""]
    regularized_gap: Float[Array, ""]
    average: Float[Array, ""]
    kl: Float[Array, ""]
    iterate: Int[Array, ""]
    log_policy: Pair


def _followed(
    game: Game, algorithm: Algorithm, reference: _Reference, begin: HostPair, counts: tuple[int, int]
) -> _Course:
    """Every row, on the host; with KL, from the nearest equilibrium too.

    Args:
        game, algorithm, reference: resolved.
        begin: first log-policies.
        counts: iterations, and iterations from one row to the next.
    """
    iterations, every = counts
    on_device = replace(game, description=Description("", 0.0)).astype(jnp.float64)
    target = None if reference.log_policy is None else tuple(map(jnp.asarray, reference.log_policy))
    state = jax.jit(algorithm.init)(on_device, tuple(jnp.asarray(log) for log in begin))
    found = [jax.device_get(_first(algorithm, on_device, state, target))]
    for done in range(0, iterations, ROWS * every):
        state, course = _chunk(algorithm, on_device, state, target, every)
        kept = min(ROWS, (iterations - done) // every)
        found.append(jax.tree.map(lambda a, n=kept: np.asarray(a)[:n], course))
        if reference.name == REGULARIZED_NAME and found[-1].kl[-1:].max(initial=np.inf) <= ARRIVED * found[0].kl[0]:
            break
    course: Any = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    if reference.name == REGULARIZED_NAME:
        there = np.flatnonzero(np.asarray(course.kl) <= ARRIVED * course.kl[0])
        course = jax.tree.map(lambda a: a[: there[0] + 1], course) if len(there) else course
    return course if target is not None else course._replace(kl=_nearest(reference.sets, course.log_policy))


def _trace(game: Game, course: Any) -> Trace:
    """Its columns."""
    numbers = {
        "iteration": course.iteration.astype(float),
        "gradient_evaluations": course.gradient_evaluations.astype(float),
        "seconds": np.full(len(course.kl), np.nan),
        "exploitability": course.nash_conv / 2,
        "nash_conv": course.nash_conv,
        "regularized_gap": course.regularized_gap,
        "value": course.value + game.description.offset,
        "average_exploitability": course.average / 2,
    }
    return Trace({name: numbers[name] for name in TRACE_COLUMNS} | {run_directory.KL: course.kl})


def _nearest(sets: tuple[OptimalSet, ...], logs: Any) -> Float[np.ndarray, " R"]:
    """KL from the nearest equilibrium to each of the iterates."""
    each = zip(sets, logs, strict=True)
    return sum((np.array([one.distance(np.exp(row[1:])) for row in log]) for one, log in each), np.zeros(len(logs[0])))


def _measured(algorithm: Any, game: Game, state: Any, target: Pair | None) -> _Course:
    candidate, extra = algorithm.policy(game, state), algorithm.diagnostics(game, state)
    kl = jnp.full_like(candidate.nash_conv, jnp.nan)
    if target is not None:
        each = zip(game.players, target, candidate.log_policy, strict=True)
        kl = sum((player.bregman(player.top_down(star), star, log) for player, star, log in each), jnp.zeros_like(kl))
    return _Course(
        state.iteration,
        state.gradient_evaluations,
        candidate.nash_conv,
        candidate.value,
        extra.regularized_gap,
        extra.average_nash_conv,
        kl,
        candidate.iterate,
        candidate.log_policy,
    )


@jax.jit
def _first(algorithm: Any, game: Game, state: Any, target: Pair | None) -> _Course:
    """The row of the start."""
    return jax.tree.map(lambda a: a[None], _measured(algorithm, game, state, target))


@partial(jax.jit, static_argnames="every")
def _chunk(algorithm: Any, game: Game, state: Any, target: Pair | None, every: int) -> tuple[Any, _Course]:
    """`ROWS` rows, `every` iterations each."""

    def row(state: Any, _: None) -> tuple[Any, _Course]:
        state = jax.lax.fori_loop(0, every, lambda _, s: algorithm.step(game, s), state)
        return state, _measured(algorithm, game, state, target)

    return jax.lax.scan(row, state, None, length=ROWS)
