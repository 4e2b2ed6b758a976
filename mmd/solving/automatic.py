"""What `auto` does: choose a method by what it costs, and say which one found the policy.

    the interior point, on the host     where a model of its factors' cost says that it is the quickest
    regret minimisation, on the host    of a large game of which little is asked
    restarted primal-dual steps         elsewhere, after some regret minimisation; and wherever JAX was asked for:
                                        another device, several, float32, a start, a polish, numbers of the algorithm's
                                        own, a checkpoint to go on from

Where the interior point ends above the tolerance, its policy is polished, a small game gets an exact vertex, and if
that does not do either, the primal-dual steps follow, from the uniform policy. The best policy of all is returned.

The clock decides nothing, so a run can be repeated.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mmd.algorithms._host_dcfr import HostDiscountedCFR
from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import Limits
from mmd.algorithms.interior import Interior
from mmd.algorithms.restarted import Restarted
from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.measure.certificate import certify
from mmd.measure.solution import TRACE_COLUMNS, OnCheck, Solution, Status, Trace
from mmd.solving import host_run

if TYPE_CHECKING:
    from mmd.algorithms.interior import Work

# Seconds of the model, of one core of 2025, beside measured ones: `python -m benchmarks.device.cost_model`.
PER_ITERATION, PER_ENTRY, PER_OPERATION = 6e-3, 6e-8, 1.1e-9  # of the interior point, whose iterations are
ITERATIONS, GROWTH = 2.04, 0.235  # the first times the number of sequences to the power of the second
COMPILING, PER_PAYOFF, EVALUATIONS = 12.0, 1e-8, 5_000  # of the primal-dual steps; for each evaluation
FEW = 200  # evaluations to a coarse tolerance
DOUBT = 4.0  # how much longer than modelled primal-dual steps may well take to a fine one: they were 40 to 34,000
MOST_PAYOFFS = 3_000_000  # of a game for which an elimination order is looked for
COARSE = 1e-3  # of the payoff range: where regret minimisation hands over
ROUGH, MANY = 2.5e-5, 30_000  # of the payoff range, payoffs: from there on regret minimisation may do it alone
MOST_STEPS = 2_000  # of regret minimisation, which needs some hundred where it is of use
SOON = 1e-3  # seconds: the time limit of a method whose time is up
UNIFORM = 0.01  # share of uniform play in what it hands over
FINAL = {Status.CONVERGED, Status.INTERRUPTED, Status.ITERATION_LIMIT, Status.TIME_LIMIT}

Engine = Callable[..., Solution]


@dataclass(frozen=True)
class Settings:
    """What `mmd.solve` was given besides game, algorithm and limits; the names are its own."""

    dtype: str
    start: Any
    polish: bool | None
    checkpoint: str | os.PathLike[str] | None
    resume: bool
    mesh: Any

    @property
    def ask_for_jax(self) -> bool:
        """Whether something was asked for that only compiled steps have."""
        device = getattr(jax.config, "jax_default_device", None)
        elsewhere = device is not None and getattr(device, "platform", device) != "cpu"
        goes_on = self.resume and self.checkpoint is not None and Path(self.checkpoint).exists()
        given = self.start is not None or self.polish is not None or self.mesh is not None
        return elsewhere or goes_on or given or self.dtype != "float64"


def solve(
    game: Game, algorithm: Auto, limits: Limits, settings: Settings, on_check: OnCheck | None, engine: Engine
) -> Solution:
    """A solution by the method that suits the game; arguments, result and errors as of `mmd.solve`.

    Args:
        engine: runs a traced algorithm on the game, with keyword arguments of `mmd.solve`.
    """
    steps = algorithm.steps
    if steps not in (Restarted(), Restarted().resolve(game)) or settings.ask_for_jax:
        return _named(engine(steps))
    interior = None if is_rough(game, limits) else _affordable(game, limits)
    given = settings, on_check, engine
    if interior is not None:
        return _named(_by_interior(game, interior, steps, limits, given))
    return _named(_after_regret_minimization(game, steps, limits, given))


def _by_interior(
    game: Game,
    interior: Interior,
    steps: Restarted,
    limits: Limits,
    given: tuple[Settings, OnCheck | None, Engine],
) -> Solution:
    """The interior point, then what follows where it ends above the tolerance."""
    settings, on_check, engine = given
    begun = time.perf_counter()
    found = host_run.solve(game, interior, limits, on_check, checkpoint=settings.checkpoint, resume=settings.resume)
    found = _finished(game, limits, found)
    found = replace(found, seconds={"compile": 0.0, "solve": time.perf_counter() - begun})
    return found if found.status in FINAL else _better(found, engine(steps, **_left(limits, found)))


def _named(solution: Solution) -> Solution:
    """The solution, which says that its method was chosen for the user."""
    return replace(solution, algorithm=solution.algorithm | {"chosen_by": Auto.name})


def _left(limits: Limits, first: Solution) -> dict[str, Any]:
    """What a first method has left of the limits, as arguments of `mmd.solve`."""
    seconds = None if limits.time_limit is None else max(limits.time_limit - first.seconds["solve"], SOON)
    return {"max_iterations": max(limits.max_iterations - first.iterations, 0), "time_limit": seconds}


def _better(first: Solution, second: Solution) -> Solution:
    """The policy that is nearer to an equilibrium; why the second run ended, and the seconds of both."""
    found = second if second.converged or second.nash_conv <= first.nash_conv else first
    seconds = {part: first.seconds[part] + second.seconds[part] for part in first.seconds}
    return replace(found, status=second.status, seconds=seconds)


def _affordable(game: Game, limits: Limits) -> Interior | None:
    """The interior point, ready for this game, unless primal-dual steps are likely to be quicker."""
    if game.payoff.n_stored > MOST_PAYOFFS:
        return None
    interior = Interior().resolve(game)
    assert interior.prepared is not None
    return interior if interior_seconds(interior.prepared.newton.work) <= first_order_seconds(game, limits) else None


def interior_seconds(work: "Work") -> float:
    """What the interior point takes, by the model.

    Args:
        work: what one factorisation takes.
    """
    iterations = ITERATIONS * work.sequences**GROWTH
    return iterations * (PER_ITERATION + PER_ENTRY * work.entries + PER_OPERATION * work.operations)


def first_order_seconds(game: Game, limits: Limits) -> float:
    """What compiled steps take, by the model: fewer of them where little is asked."""
    coarse = limits.tolerance is not None and limits.tolerance >= COARSE * game.description.payoff_range
    evaluations = FEW if coarse else DOUBT * EVALUATIONS
    return COMPILING + evaluations * PER_PAYOFF * game.payoff.n_stored


def _finished(game: Game, limits: Limits, found: Solution) -> Solution:
    """What the polish and an exact vertex make of a policy that ended above the tolerance."""
    if found.status in FINAL:
        return found
    from mmd.measure import vertex  # SciPy's solvers: loaded when they are needed
    from mmd.solving.polish import affordable, polish, to_vertex

    policy, iterate, certificate = found.policy.probabilities, found.iterate, certify(game, found.policy)
    budget = affordable(game, found.gradient_evaluations, 0.0, limits.time_limit)
    if budget > 0:
        polished = polish(game, policy, certificate=certificate, budget=budget)
        if polished.accepted:
            policy, iterate, certificate = polished.probabilities, "polished", polished.after
    if not limits.reached(certificate) and vertex.affordable(game, limits.time_limit):
        exact = to_vertex(game, policy, certificate=certificate)
        if exact.accepted:
            policy, iterate, certificate = exact.probabilities, "polished", exact.after
    unresolved = limits.tolerance is None and certificate.unresolved
    status = Status.CONVERGED if limits.reached(certificate) else Status.PRECISION if unresolved else found.status
    return replace(
        found,
        policy=Policy(game, policy),
        iterate=iterate,
        status=status,
        tolerance=limits.bound(certificate),
        value=certificate.value,
        nash_conv=certificate.nash_conv,
    )


def is_rough(game: Game, limits: Limits) -> bool:
    """Whether so little is asked, of so large a game, that regret minimisation is quicker than any factors."""
    enough = limits.tolerance is not None and limits.tolerance >= ROUGH * game.description.payoff_range
    return enough and game.payoff.n_stored > MANY


def _after_regret_minimization(
    game: Game, steps: Restarted, limits: Limits, given: tuple[Settings, OnCheck | None, Engine]
) -> Solution:
    """What regret minimisation reaches, and where it has become slow, the method that goes on."""
    coarse = COARSE * game.description.payoff_range
    rough = is_rough(game, limits)
    asked = limits.tolerance if rough else coarse if limits.tolerance is None else max(limits.tolerance, coarse)
    most = min(limits.max_iterations, MOST_STEPS)
    begun = host_run.solve(game, HostDiscountedCFR(), replace(limits, tolerance=asked, max_iterations=most), given[1])
    if begun.converged and asked == limits.tolerance:
        return begun
    certificate = certify(game, begun.policy)
    slow = begun.status is Status.ITERATION_LIMIT and most < limits.max_iterations
    if limits.reached(certificate) or not (begun.converged or slow):
        return replace(begun, tolerance=limits.bound(certificate))
    left = _left(limits, begun)
    interior = _affordable(game, limits) if rough else None
    if interior is not None:
        return _joined(begun, _by_interior(game, interior, steps, replace(limits, **left), given))
    row, column = (
        (1 - UNIFORM) * p + UNIFORM * np.exp(player.uniform())
        for p, player in zip(begun.policy.probabilities, game.players, strict=True)
    )
    return _joined(begun, given[2](steps, start=Policy(game, (row, column)), **left))


def _joined(first: Solution, second: Solution) -> Solution:
    """The second solution, whose trace and counts begin with those of the first."""
    offsets = {
        "iteration": first.iterations,
        "gradient_evaluations": first.gradient_evaluations,
        "seconds": first.seconds["solve"],
    }
    columns = {
        name: np.concatenate([first.trace[name], second.trace[name] + offsets.get(name, 0.0)]) for name in TRACE_COLUMNS
    }
    return replace(
        second,
        algorithm=second.algorithm | {"start": f"{first.iterations:,} iterations of {first.algorithm['name']}"},
        iterations=first.iterations + second.iterations,
        gradient_evaluations=first.gradient_evaluations + second.gradient_evaluations,
        seconds={part: first.seconds[part] + second.seconds[part] for part in first.seconds},
        trace=Trace(columns),
    )
