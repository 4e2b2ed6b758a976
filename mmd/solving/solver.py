"""The time loop of traced algorithms: compiled chunks, a check every few iterations, a certificate before any claim.

A chunk runs on the device until the algorithm's own NashConv reaches the target, a limit is hit, or its rows are full.
The host then looks at the clock, at the user and at the certificate. The algorithm's measurement only suggests to
stop; the answer is `mmd.measure.certificate`'s, in float64, by code that shares nothing with the iteration.

The clock decides how long chunks are and when a checkpoint is written, and no number depends on either: checks are at
multiples of `check_every`, and a chunk ends at the first check at which the host may have something to do.

An algorithm of the other form has its own loop, on the host (`mmd.solving.host_run`).
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import ITERATES, Algorithm, Candidate, HostAlgorithm, Limits, describe, resolved
from mmd.algorithms.restarted import Restarted
from mmd.game.game import Description, Game, GameError, HostPair, Pair, as_game, refuse_traced
from mmd.game.policy import Policy, full_support
from mmd.game.sharding import Placement, flat
from mmd.magnets import Magnet
from mmd.measure.certificate import certify
from mmd.measure.solution import TRACE_COLUMNS, Certified, OnCheck, Solution, Status, Trace
from mmd.solving import automatic, chunk, host_run, programs, units
from mmd.solving.checkpoint import Checkpoint, CheckpointError, Reached
from mmd.solving.stopping import Standing, gap_goal, limit, why_to_stop

REGULARIZED_TOLERANCE = 1e-12  # of the payoff range: the default bound of the regularized gap of a magnet that stays
FLOAT32_FLOOR = 1e-6  # of the payoff range: below it float32's own NashConv is rounding noise
FIRST_POLISH = 1e-2  # of the payoff range: exploitability at which the polish is tried first
POLISH_EVERY = 10**-0.5  # then whenever it has fallen by this factor
NO_POLISH = {"tries": [], "vertex": False, "gradient_evaluations": 0, "modelled_seconds": 0.0, "seconds": 0.0}
VERTEX_TRIES = 3  # from this try of the polish on an exact vertex is tried as well, in a small game
VERTEX_ITERATIONS = 1_000  # a run that ends at a limit tries it after so many
EXTREME = (
    1e-14  # of the payoff range: a default tolerance below it says that one payoff dwarfs play, and needs it at once
)
DEFAULT = -1.0  # stands for a tolerance that was not given
CHUNK_SECONDS = 0.2
MANY_ROWS, MORE_ROWS, MOST_DOUBLINGS = 40_000, 4_000, 12  # from so many rows on, checks get rarer after each so many

LOGGER = logging.getLogger("mmd")  # level INFO: what is compiled, and in how many seconds
UNNAMED = Description("", 0.0)  # programs see shapes and numbers only


def solve(
    game: Game | Any,
    algorithm: Algorithm | HostAlgorithm | None = None,
    *,
    tolerance: float | None = None,
    regularized_tolerance: float | None = None,
    max_iterations: int = 100_000,
    time_limit: float | None = None,
    dtype: str = "float64",
    start: Policy | Pair | HostPair | None = None,
    on_check: OnCheck | None = None,
    polish: bool | None = None,
    check_every: int = 10,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    mesh: Mesh | None = None,
) -> Solution:
    """Find a Nash equilibrium of a two-player zero-sum game, with a certificate.

    Args:
        game: a `Game`, an [m, n] array of payoffs, or the name or file of a game, as `games.load` takes them.
        algorithm: how; `Auto()` if None, which chooses a method (`mmd.solving.automatic`) and whose solution names it.
            One that runs on the host (`mmd.HostAlgorithm`) has no use for dtype, start, polish and mesh. It keeps no
            checkpoint, and starts anew where it is asked to resume.
        tolerance: bound on the returned policy's exploitability, in payoff units; None for 1e-11 of what is at stake in
            play, as `Certificate.default_tolerance` (`mmd.measure.certificate`) defines it.
        regularized_tolerance: with a magnet that stays, the run ends once the regularized gap is at most this, in
            payoff units. The iterate has then arrived at the regularized equilibrium, and the exploitability falls no
            further. None for 1e-12 of the payoff range, 0 for never.
        max_iterations: iterations allowed.
        time_limit: seconds of solving allowed, compilation apart; None for no limit.
        dtype: "float64" or "float32", of the iteration. Certificates are always float64.
        start: first policy, with full support; uniform if None.
        on_check: called on the host after every chunk with the newest row of the trace.
        polish: also try the polish (`mmd.solving.polish`) from 1 % of the payoff range on, every half decade, as far as
            a model of its cost allows. If None, with `Restarted` only: it returns the best policy, others an iterate.
        check_every: iterations between two rows of the trace; beyond 40,000 rows twice as many after every 4,000.
        checkpoint: an .npz file that is replaced every few seconds and at the end by what the run needs to go on. It is
            locked meanwhile: a second process that would write it is refused.
        resume: go on from the checkpoint if there is one, with the same numbers as if nothing had happened. Tolerance,
            limits and `polish` may be others than before; iterations and seconds count from the first start.
        mesh: devices that share the payoffs and the sweeps (`mmd.game.sharding`); the default device if None. They may
            be of all processes of `jax.distributed`. Then each process calls `solve` with the same arguments and gets
            the same `Solution`.

    Returns:
        A `Solution`; `converged` only if the certified exploitability is at most the tolerance. Ctrl-C ends the run
        with the policy reached so far.

    Raises:
        GameError: an argument is out of range or without use, or the algorithm is not defined on this game.
        OutputError: the checkpoint cannot be written, or another process is writing it.
        CheckpointError: it is damaged, or of another game, algorithm, start or precision.
    """
    given = {name: value for name, value in locals().items() if name not in ("game", "algorithm")}
    refuse_traced(game, algorithm, start)
    game = _checked(game, algorithm)
    limits = Limits.checked(game, tolerance, max_iterations, time_limit, check_every)
    _refuse_settings(dtype, checkpoint, resume=resume)
    if isinstance(algorithm, HostAlgorithm):
        settings = {"dtype": dtype, "start": start, "polish": polish or None, "mesh": mesh}
        _refuse_useless(algorithm, settings | {"regularized_tolerance": regularized_tolerance})
        return host_run.solve(game, algorithm, limits, on_check, checkpoint=checkpoint, resume=resume)
    algorithm = algorithm or Auto()
    if type(algorithm) is Auto:
        _regularized_tolerance(game, algorithm, regularized_tolerance)
        settings = automatic.Settings(dtype, start, polish, checkpoint, resume, mesh)
        engine = partial(_with_other_arguments, game, given)
        return automatic.solve(game, algorithm, limits, settings, on_check, engine)
    if type(algorithm) is Restarted and (k := units.exponent(game)):  # others have numbers in the units of the game
        tolerance = None if tolerance is None else float(np.ldexp(tolerance, -k))
        converted = on_check and (lambda row: on_check(units.row_back(row, game, k)))
        in_units = units.in_other_units(game, k), given, algorithm
        return units.back(_with_other_arguments(*in_units, tolerance=tolerance, on_check=converted), game, k)
    algorithm = resolved(algorithm, game, dtype)
    limits = replace(limits, regularized_tolerance=_regularized_tolerance(game, algorithm, regularized_tolerance))
    start = tuple(p.uniform() for p in game.players) if start is None else full_support(game, start, "start")
    with jax.enable_x64(dtype == "float64"):
        place = Placement(np.dtype(dtype), None if mesh is None else flat(mesh))
        run = _Run(game, algorithm, limits, start, place, type(algorithm) is Restarted if polish is None else polish)
        if checkpoint is None:
            return run.until_done(on_check)
        kept = Checkpoint.of_run(checkpoint, game, algorithm, start, dtype=dtype, check_every=check_every)
        with kept.held(place):
            run.keep(kept, resume=resume)
            return run.until_done(on_check)


def _with_other_arguments(game: Game, given: dict[str, Any], algorithm: Algorithm, **others: Any) -> Solution:
    """`solve` with the arguments that were given but for some others."""
    return solve(game, algorithm, **given | others)


def _checked(game: Any, algorithm: Any) -> Game:
    """The game that is given; what is none is refused, and what is no algorithm of either form."""
    game = as_game(game)
    if isinstance(algorithm, type) or not isinstance(algorithm, Algorithm | HostAlgorithm | None):
        raise GameError(f"expected an algorithm such as mmd.Auto(), got {algorithm!r}")
    return game


def _refuse_settings(dtype: str, checkpoint: str | os.PathLike[str] | None, *, resume: bool) -> None:
    """What is no precision, and resuming from nothing."""
    if dtype not in ("float64", "float32"):
        raise GameError(f"expected dtype float64 or float32, got {dtype!r}")
    if resume and checkpoint is None:
        raise GameError("expected a checkpoint to resume from, got none: name its file")


def _refuse_useless(algorithm: HostAlgorithm, given: dict[str, Any]) -> None:
    """Arguments that an algorithm on the host has no use for."""
    for name, value in given.items():
        if value not in (None, "float64"):
            raise GameError(
                f"expected no {name} for {algorithm.name}: it runs on the host, in float64, with a start of its own, "
                "no magnet and no polish"
            )


class _Run:
    """The host side of one call of `solve`: what has been reached, and what to do next."""

    def __init__(
        self, game: Game, algorithm: Algorithm, limits: Limits, start: HostPair, place: Placement, polish: bool
    ) -> None:
        self.game, self.algorithm, self.limits, self.place, self.polish = game, algorithm, limits, place, polish
        self.floor = FLOAT32_FLOOR * game.description.payoff_range if place.dtype == np.float32 else -np.inf
        self.gap_goal = gap_goal(limits, self.floor)
        self.on_device = (place.whole(algorithm), place.game(replace(game, description=UNNAMED)))
        candidate = place.whole(chunk.unmeasured(start, place.dtype))
        seconds = {"compile": 0.0, "solve": 0.0}
        polish_at = FIRST_POLISH * game.description.payoff_range
        target = limits.tolerance
        if target is None:
            target = certify(game, Policy.from_log(game, (start[0], start[1])).probabilities).default_tolerance
        asked = DEFAULT if limits.tolerance is None else limits.tolerance
        self.at = Reached(None, candidate, 0, seconds, asked, target, polish_at, NO_POLISH)
        self.after_chunk = self.at  # what is whole if Ctrl-C comes at a bad moment, and what is saved
        self.trace: list[dict[str, float]] = []
        self.rows_wanted = 1
        self.advance: Callable[..., Any] | None = None  # `chunk.advance`, compiled
        self.checkpoint: Checkpoint | None = None
        self.newest: tuple[Candidate, Certified] | None = None  # what `_certified` last read

    def keep(self, checkpoint: Checkpoint, *, resume: bool) -> None:
        """Save to a checkpoint from now on, and go on from it if it is there and that is asked for."""
        self.checkpoint = checkpoint if self.place.leads else None
        self.place.of_all_processes(0.0)  # the first one may still be writing the checkpoint of a run before
        if not resume:
            checkpoint.discard()
            return
        state = jax.eval_shape(chunk.init, *self.on_device, self.at.candidate.log_policy)
        found = checkpoint.load(self.game, self.at._replace(state=state))
        if len(set(self.place.of_all_processes(-1.0 if found is None else float(found[0].rows)))) > 1:
            raise CheckpointError(
                f"{checkpoint.path}: expected a file that all processes of the mesh see, got different ones"
            )
        if found is not None:
            reached, self.trace = found
            state, candidate = self.place.whole((reached.state, reached.candidate))
            reached = reached._replace(state=state, candidate=candidate)
            if reached.tolerance != self.at.tolerance:
                reached = reached._replace(tolerance=self.at.tolerance, target=self.at.target)
            self.at = self.after_chunk = reached

    def until_done(self, on_check: OnCheck | None) -> Solution:
        """Chunk after chunk until there is a reason to stop."""
        try:
            self._compile()
            while (status := why_to_stop(self._look(), self.limits, self.floor)) is None:
                self._advance(self.limits.max_iterations)
                if on_check is not None:
                    on_check(self.trace[-1])
                if self.checkpoint is not None:
                    self.checkpoint.save_if_due(self.after_chunk, self.trace)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            self.at = self.after_chunk
            del self.trace[self.at.rows :]
        if self.checkpoint is not None and status is not Status.NONFINITE:
            self.checkpoint.save(self.after_chunk, self.trace)
        return self._solution(status)

    def _compile(self) -> None:
        """Compile, and measure the start: the first row of the trace. A resumed run has it and only compiles."""
        begun = time.perf_counter()
        before = self.at.seconds
        LOGGER.info("compiling %s for %s", self.algorithm.name, self.game.name)
        if self.trace:
            self.rows_wanted = 0
        else:
            start = (*self.on_device, self.at.candidate.log_policy)
            self.at = self.at._replace(state=self._program(chunk.init, start)(*start))
        self._advance(max_iterations=0)
        self.trace[0]["seconds"] = 0.0
        elapsed = time.perf_counter() - begun
        LOGGER.info("compiled %s for %s in %.1f s", self.algorithm.name, self.game.name, elapsed)
        self.at = self.after_chunk = self.at._replace(seconds=before | {"compile": before["compile"] + elapsed})

    def _advance(self, max_iterations: int) -> None:
        """One chunk: about CHUNK_SECONDS of iterations."""
        at = self.at
        polish_at = at.polish_at if self.polish else 0.0
        begun = time.perf_counter()
        goals = 2 * max(at.target, self.floor, polish_at), self.gap_goal
        goal = chunk.Goal(*(np.asarray(bound, self.place.dtype) for bound in goals))
        check_every, room = _checks(self.limits.check_every, at.rows)
        counts = (
            np.asarray(n, at.state.iteration.dtype) for n in (max_iterations, check_every, min(self.rows_wanted, room))
        )
        arguments = (*self.on_device, at.state, at.candidate, goal, *counts)
        self.advance = self.advance or self._program(chunk.advance, arguments)
        state, candidate, rows = self.advance(*arguments)
        rows = jax.device_get(rows)
        elapsed = max(self.place.of_all_processes(time.perf_counter() - begun))  # processes must decide alike
        self._record(rows, elapsed)
        seconds = at.seconds | {"solve": at.seconds["solve"] + elapsed}
        self.at = self.after_chunk = at._replace(
            state=state, candidate=candidate, rows=len(self.trace), seconds=seconds
        )
        growth = 2.0 if elapsed < CHUNK_SECONDS / 2 else CHUNK_SECONDS / elapsed
        self.rows_wanted = int(np.clip(self.rows_wanted * growth, 1, chunk.CHUNK_ROWS))

    def _program(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
        """The compiled form of a function of `chunk`, from the disk if it is kept there."""
        return function if self.place.mesh is not None else programs.ready(function, *arguments)

    def _record(self, rows: chunk.Rows, elapsed: float) -> None:
        """Append a chunk's rows; seconds inside a chunk are interpolated."""
        count, polishing = int(rows.filled), self.at.polish_report
        for i in range(count):
            nash_conv, regularized_gap, value, average = (float(v) for v in rows.numbers[i])
            numbers = (
                float(rows.work[i, 0]),
                float(rows.work[i, 1]) + polishing["gradient_evaluations"],
                self.at.seconds["solve"] + elapsed * (i + 1) / count,
                nash_conv / 2,
                nash_conv,
                regularized_gap,
                value + self.game.description.offset,
                average / 2,
            )
            self.trace.append(dict(zip(TRACE_COLUMNS, numbers, strict=True)))

    def _look(self) -> Standing:
        """What the newest row of the trace says, what the certificate says of it, and what the polish makes of it."""
        newest = self.trace[-1]
        solved = newest["regularized_gap"] <= self.at.target
        standing = Standing(newest, self.at.seconds["solve"], solved and _magnet_moves(self.algorithm))
        if not standing.is_finite:
            return standing
        found = self._certified() if newest["exploitability"] <= self.at.target else None
        if found is None or self.limits.tolerance is None or not self.limits.reached(found.certificate):
            self._improve(standing)
        if found is not None:  # if the run goes on, the device was kinder than the certificate
            self.at = self.at._replace(target=min(self.at.target / 2, self.limits.bound(found.certificate)))
        return standing._replace(certificates=tuple(one.certificate for one in (self.at.polished, found) if one))

    def _improve(self, standing: Standing) -> None:
        """Try the polish, and an exact vertex, where they are due."""
        if self.polish and standing.row["exploitability"] <= self.at.polish_at:
            self._try_polish(standing.row)
        if self._wants_vertex(standing.row, limit(standing, self.limits)):
            self._try_vertex(standing.row)

    def _certified(self) -> Certified:
        """The algorithm's policy of now, certified."""
        candidate = self.at.candidate
        if self.newest is None or self.newest[0] is not candidate:
            policy = Policy.from_log(self.game, jax.device_get(candidate.log_policy))
            if not 0 <= (iterate := int(candidate.iterate)) < len(ITERATES):
                known = f"an iterate from 0 to {len(ITERATES) - 1} ({', '.join(ITERATES)})"
                raise GameError(f"algorithm {self.algorithm.name}: expected policy to return {known}, got {iterate}")
            self.newest = candidate, Certified(policy, ITERATES[iterate], certify(self.game, policy.probabilities))
        return self.newest[1]

    def _try_polish(self, newest: dict[str, float]) -> None:
        """Polish the algorithm's policy of now, if that is affordable."""
        from mmd.solving.polish import affordable, polish  # SciPy's sparse solvers: loaded when they are needed

        self.at = self.at._replace(polish_at=newest["exploitability"] * POLISH_EVERY)
        budget = affordable(
            self.game,
            int(newest["gradient_evaluations"]),
            self.at.polish_report["modelled_seconds"],
            self.limits.time_limit,
        )
        if budget == 0:
            return
        begun = time.perf_counter()
        given = self._certified()
        if self.limits.tolerance is None:
            self.at = self.at._replace(target=self.limits.bound(given.certificate))
        found = polish(self.game, given.policy.probabilities, certificate=given.certificate, budget=budget)
        self._note_try(newest, found, time.perf_counter() - begun)

    def _wants_vertex(self, newest: dict[str, float], at_limit: Status | None) -> bool:
        """Whether to try an exact vertex: of a small game that the polish has not solved."""
        report = self.at.polish_report
        if not self.polish or report["vertex"] or (not report["tries"] and at_limit is None):
            return False
        if self.at.polished is not None and self.limits.reached(self.at.polished.certificate):
            return False
        extreme = self.limits.tolerance is None and self.at.target < EXTREME * self.game.description.payoff_range
        ends_late = at_limit is not None and newest["iteration"] >= VERTEX_ITERATIONS
        if not (extreme or ends_late or len(report["tries"]) >= VERTEX_TRIES):
            return False
        from mmd.measure.vertex import affordable

        return affordable(self.game, self.limits.time_limit)

    def _try_vertex(self, newest: dict[str, float]) -> None:
        """An exact vertex of a small game."""
        from mmd.solving.polish import to_vertex

        begun = time.perf_counter()
        given = self._certified()
        found = to_vertex(self.game, given.policy.probabilities, certificate=given.certificate)
        self.at = self.at._replace(polish_report=self.at.polish_report | {"vertex": True})
        self._note_try(newest, found, time.perf_counter() - begun)

    def _note_try(self, newest: dict[str, float], found: Any, elapsed: float) -> None:
        """Keep what a try has found (a `PolishReport`), if it is the best so far, and what it took."""
        elapsed = max(self.place.of_all_processes(elapsed))
        report = self.at.polish_report
        one = {
            "iteration": int(newest["iteration"]),
            "gradient_evaluations": int(newest["gradient_evaluations"]) + found.gradient_evaluations,
            "faces": found.faces,
            "nash_conv_before": found.nash_conv_before,
            "nash_conv_after": found.nash_conv_after,
            "seconds": self.at.seconds["solve"] + elapsed,
        }
        report = report | {
            "tries": [*report["tries"], one],
            "gradient_evaluations": report["gradient_evaluations"] + found.gradient_evaluations,
            "modelled_seconds": report["modelled_seconds"] + found.modelled_seconds,
            "seconds": report["seconds"] + elapsed,
        }
        polished = self.at.polished
        if found.accepted and (polished is None or found.nash_conv_after < polished.certificate.nash_conv):
            polished = Certified(Policy(self.game, found.probabilities), "polished", found.after)
        seconds = self.at.seconds | {"solve": self.at.seconds["solve"] + elapsed}
        self.at = self.at._replace(seconds=seconds, polished=polished, polish_report=report)

    def _solution(self, status: Status) -> Solution:
        """The better of the polished policy and the algorithm's, with everything that is known about the run."""
        found = self._certified()
        if self.at.polished and self.at.polished.certificate.nash_conv < found.certificate.nash_conv:
            found = self.at.polished
        newest = self.trace[-1] if self.trace else dict.fromkeys(TRACE_COLUMNS, 0.0) | {"regularized_gap": np.nan}
        tries = self.at.polish_report["tries"]
        work = [int(newest["gradient_evaluations"]), *(one["gradient_evaluations"] for one in tries)]
        return Solution(
            game=self.game,
            algorithm=describe(self.algorithm),
            policy=found.policy,
            iterate=found.iterate,
            status=status,
            tolerance=self.limits.bound(found.certificate),
            value=found.certificate.value,
            nash_conv=found.certificate.nash_conv,
            regularized_gap=None if np.isnan(newest["regularized_gap"]) else newest["regularized_gap"],
            iterations=int(newest["iteration"]),
            gradient_evaluations=max(work),
            seconds=self.at.seconds,
            dtype=self.place.dtype.name,
            trace=Trace({c: np.array([row[c] for row in self.trace]) for c in TRACE_COLUMNS}),
            polish=self.at.polish_report if tries else None,
        )


def _checks(check_every: int, rows: int) -> tuple[int, int]:
    """Iterations between two rows of a trace that has so many already, and for how many more rows that holds.

    A trace of millions of rows would take longer to write than anybody waits, and no figure shows them.
    """
    doublings = min(max((rows - MANY_ROWS) // MORE_ROWS + 1, 0), MOST_DOUBLINGS)
    until = MANY_ROWS + doublings * MORE_ROWS
    return check_every << doublings, max(until - rows, 1) if doublings < MOST_DOUBLINGS else MORE_ROWS


def _regularized_tolerance(game: Game, algorithm: Algorithm, given: float | None) -> float:
    """The bound on the regularized gap; -inf where there is no one regularized game to arrive at."""
    if given is not None and not given >= 0:
        raise GameError(f"expected a regularized_tolerance >= 0, got {given}")
    magnet = getattr(algorithm, "magnet", None)
    regularizes = isinstance(magnet, Magnet) and magnet.regularizes and getattr(algorithm, "has_gap", True)
    if regularizes and not _magnet_moves(algorithm):
        return REGULARIZED_TOLERANCE * game.description.payoff_range if given is None else float(given)
    if given is not None:
        raise GameError(
            f"expected a regularized_tolerance only with a magnet that stays, such as that of mmd with mmd.Fixed(): "
            f"{algorithm.name} has no regularized gap that ends a run"
        )
    return -np.inf


def _magnet_moves(algorithm: Algorithm) -> bool:
    """Whether the regularized game is another one from time to time, so that its equilibrium is no end."""
    magnet = getattr(algorithm, "magnet", None)
    return getattr(algorithm, "moves_magnet", False) or (isinstance(magnet, Magnet) and magnet.travels)
