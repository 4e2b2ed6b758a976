"""The only time loop: compiled chunks of iterations, a check every few, a certificate before anything is claimed.

A chunk runs on the device until the algorithm's own NashConv reaches the target, a limit is hit, or its rows are full.
The host then looks at the clock, at the user and at the certificate. The algorithm's measurement only suggests to
stop; the answer is `mmd.certificate`'s, in float64, by code that shares nothing with the iteration.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.algorithm import ITERATES, Algorithm, Candidate, smaller
from mmd.algorithms.auto import Auto
from mmd.certificate import Certificate, certify
from mmd.game import Game, GameError, HostPair, Pair
from mmd.policy import Policy, full_support
from mmd.solution import TRACE_COLUMNS, Solution, Status, Trace

DEFAULT_TOLERANCE = 1e-11  # of the payoff range: on ill-conditioned tables 1e-9 leaves five digits of the policy
FLOAT32_FLOOR = 1e-6  # of the payoff range: below it float32's own NashConv is rounding noise
MOST_ITERATIONS = 2**31 - 1  # of a 32-bit counter
CHUNK_ROWS = 256
CHUNK_SECONDS = 0.2

OnCheck = Callable[[dict[str, float]], None]


class Rows(NamedTuple):
    """A chunk's part of the trace: the first `filled` of R rows are filled."""

    filled: Int[Array, ""]
    work: Int[Array, "R 2"]  # iteration, gradient evaluations
    numbers: Float[Array, "R 4"]  # NashConv, regularised gap, value, NashConv of the average


@dataclass(frozen=True)
class Limits:
    """When to stop: exploitability (payoff units), iterations, seconds of solving; iterations between checks."""

    tolerance: float
    max_iterations: int
    time_limit: float | None
    check_every: int

    @classmethod
    def checked(
        cls, game: Game, tolerance: float | None, max_iterations: int, time_limit: float | None, check_every: int
    ) -> "Limits":
        """The limits, with the default tolerance filled in; GameError names what is out of range."""
        if tolerance is None:
            tolerance = DEFAULT_TOLERANCE * game.description.payoff_range
        if not tolerance >= 0:
            raise GameError(f"expected a tolerance >= 0, got {tolerance}")
        if not 0 <= max_iterations <= MOST_ITERATIONS:
            raise GameError(f"expected max_iterations >= 0 and at most {MOST_ITERATIONS}, got {max_iterations}")
        if time_limit is not None and not time_limit > 0:
            raise GameError(f"expected a time limit > 0 seconds, got {time_limit}")
        if check_every < 1:
            raise GameError(f"expected check_every >= 1, got {check_every}")
        return cls(float(tolerance), int(max_iterations), time_limit, int(check_every))


@dataclass(frozen=True)
class Certified:
    """A policy, which iterate it is, and its certificate."""

    policy: Policy
    iterate: str
    certificate: Certificate


def solve(
    game: Game,
    algorithm: Algorithm | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 100_000,
    time_limit: float | None = None,
    dtype: str = "float64",
    start: Policy | Pair | HostPair | None = None,
    on_check: OnCheck | None = None,
    polish: bool = False,
    check_every: int = 10,
) -> Solution:
    """Find a Nash equilibrium of a two-player zero-sum game, with a certificate.

    Args:
        game: the game.
        algorithm: how; `Auto()` if None.
        tolerance: bound on the exploitability of the returned policy, in payoff units; None for 1e-9 of the payoff
        range.
        max_iterations: iterations allowed.
        time_limit: seconds of solving allowed, compilation apart; None for no limit.
        dtype: "float64" or "float32", of the iteration. Certificates are always float64.
        start: first policy, with full support; uniform if None.
        on_check: called on the host after every chunk with the newest row of the trace.
        polish: also try the KL-projection polish (`mmd.polish`) whenever NashConv has fallen tenfold.
        check_every: iterations between two rows of the trace.

    Returns:
        A `Solution`; `converged` only if the certified exploitability is at most the tolerance. Ctrl-C ends the run
        with the policy reached so far.

    Raises:
        GameError: an argument is out of range, or the algorithm is not defined on this game.
    """
    if not isinstance(game, Game):
        raise GameError(f"expected a Game, got {game!r}: games.load(...) makes one from a name or a file")
    if isinstance(algorithm, type) or not isinstance(algorithm, Algorithm | None):
        raise GameError(f"expected an algorithm such as mmd.Auto(), got {algorithm!r}")
    limits = Limits.checked(game, tolerance, max_iterations, time_limit, check_every)
    if dtype not in ("float64", "float32"):
        raise GameError(f"expected dtype float64 or float32, got {dtype!r}")
    algorithm = (algorithm or Auto()).resolve(game)
    uniform = tuple(player.uniform() for player in game.players)
    start = uniform if start is None else full_support(game, start, "start")
    with jax.enable_x64(dtype == "float64"):
        run = _Run(game, algorithm, limits, np.dtype(dtype), start)
        return run.until_done(on_check, polish)


class _Run:
    """The host side of one call of `solve`: what has been reached, and what to do next."""

    def __init__(self, game: Game, algorithm: Algorithm, limits: Limits, dtype: np.dtype, start: HostPair) -> None:
        self.game, self.limits, self.dtype = game, limits, dtype
        self.described = describe(algorithm)
        self.trace: list[dict[str, float]] = []
        self.seconds = {"compile": 0.0, "solve": 0.0}
        self.polished: Certified | None = None
        self.polish_report: dict[str, Any] | None = None
        self.target = limits.tolerance
        self.polish_at = np.inf
        self.rows_wanted = 1
        self.on_device = (jax.tree.map(lambda leaf: _on_device(leaf, dtype), algorithm), game.astype(dtype))
        self.candidate = _unmeasured(tuple(jnp.asarray(log, dtype) for log in start))

    def until_done(self, on_check: OnCheck | None, polish: bool) -> Solution:
        """Chunk after chunk until there is a reason to stop."""
        try:
            self._compile()
            while (status := self._status(polish)) is None:
                self._advance(self.limits.check_every)
                if on_check is not None:
                    on_check(self.trace[-1])
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        return self._solution(status)

    def _compile(self) -> None:
        """Compile, and measure the start: the first row of the trace."""
        begun = time.perf_counter()
        self.state = _init(*self.on_device, self.candidate.log_policy)
        self._advance(check_every=0)
        self.seconds = {"compile": time.perf_counter() - begun, "solve": 0.0}
        self.trace[0]["seconds"] = 0.0

    def _advance(self, check_every: int) -> None:
        """One chunk: about CHUNK_SECONDS of iterations."""
        goal = self.target if np.isinf(self.polish_at) else max(self.target, self.polish_at)
        begun = time.perf_counter()
        state, candidate, rows = _chunk(
            *self.on_device,
            self.state,
            self.candidate,
            2 * goal,
            self.limits.max_iterations,
            check_every,
            self.rows_wanted,
        )
        rows = jax.device_get(rows)
        elapsed = time.perf_counter() - begun
        self._record(rows, elapsed)
        if np.isfinite(float(candidate.nash_conv)) or not self.trace[1:]:
            self.state, self.candidate = state, candidate
        growth = 2.0 if elapsed < CHUNK_SECONDS / 2 else CHUNK_SECONDS / elapsed
        self.rows_wanted = int(np.clip(self.rows_wanted * growth, 1, CHUNK_ROWS))

    def _record(self, rows: Rows, elapsed: float) -> None:
        """Append a chunk's rows; seconds inside a chunk are interpolated."""
        count = int(rows.filled)
        for i in range(count):
            nash_conv, regularized_gap, value, average = (float(v) for v in rows.numbers[i])
            numbers = (
                float(rows.work[i, 0]),
                float(rows.work[i, 1]),
                self.seconds["solve"] + elapsed * (i + 1) / count,
                nash_conv / 2,
                nash_conv,
                regularized_gap,
                value + self.game.description.offset,
                average / 2,
            )
            self.trace.append(dict(zip(TRACE_COLUMNS, numbers, strict=True)))
        self.seconds["solve"] += elapsed

    def _status(self, polish: bool) -> Status | None:
        """Why to stop now, or None to go on."""
        newest = self.trace[-1]
        if not np.isfinite(newest["nash_conv"]):
            return Status.NONFINITE
        if newest["exploitability"] <= self.target:
            if self._certified().certificate.exploitability <= self.limits.tolerance:
                return Status.CONVERGED
            self.target /= 2  # the device's rounding was kinder than the certificate
        if polish and newest["nash_conv"] <= 2 * self.polish_at:
            self._try_polish()
            if self.polished and self.polished.certificate.exploitability <= self.limits.tolerance:
                return Status.CONVERGED
            self.polish_at = newest["exploitability"] / 10
        floor = FLOAT32_FLOOR * self.game.description.payoff_range
        if self.dtype == np.float32 and newest["exploitability"] <= floor:
            return Status.PRECISION
        if newest["iteration"] >= self.limits.max_iterations:
            solved = newest["regularized_gap"] <= self.limits.tolerance
            return Status.REGULARIZED if solved else Status.ITERATION_LIMIT
        if self.limits.time_limit is not None and self.seconds["solve"] >= self.limits.time_limit:
            return Status.TIME_LIMIT
        return None

    def _certified(self) -> Certified:
        """The algorithm's policy of now, certified."""
        policy = Policy.from_log(self.game, jax.device_get(self.candidate.log_policy))
        iterate = ITERATES[int(self.candidate.iterate)]
        return Certified(policy, iterate, certify(self.game, policy.probabilities))

    def _try_polish(self) -> None:
        from mmd.polish import polish  # SciPy's sparse solvers: loaded by those who ask for them

        begun = time.perf_counter()
        report = polish(self.game, self._certified().policy.probabilities)
        elapsed = time.perf_counter() - begun
        self.seconds["solve"] += elapsed
        before = self.polish_report or {"tries": 0, "seconds": 0.0}
        self.polish_report = {
            "tries": before["tries"] + 1,
            "seconds": before["seconds"] + elapsed,
            "accepted": report.accepted,
            "nash_conv_before": report.nash_conv_before,
            "nash_conv_after": report.nash_conv_after,
        }
        if self.polished is None or report.nash_conv_after < self.polished.certificate.nash_conv:
            policy = Policy(self.game, report.probabilities)
            self.polished = Certified(policy, "polished", certify(self.game, policy.probabilities))

    def _solution(self, status: Status) -> Solution:
        """The better of the polished policy and the algorithm's, with everything that is known about the run."""
        found = self._certified()
        if self.polished and self.polished.certificate.nash_conv < found.certificate.nash_conv:
            found = self.polished
        newest = self.trace[-1] if self.trace else dict.fromkeys(TRACE_COLUMNS, 0.0) | {"regularized_gap": np.nan}
        return Solution(
            game=self.game,
            algorithm=self.described,
            policy=found.policy,
            iterate=found.iterate,
            status=status,
            tolerance=self.limits.tolerance,
            value=found.certificate.value,
            nash_conv=found.certificate.nash_conv,
            regularized_gap=None if np.isnan(newest["regularized_gap"]) else newest["regularized_gap"],
            iterations=int(newest["iteration"]),
            gradient_evaluations=int(newest["gradient_evaluations"]),
            seconds=self.seconds,
            dtype=self.dtype.name,
            trace=Trace({c: np.array([row[c] for row in self.trace]) for c in TRACE_COLUMNS}),
            polish=self.polish_report,
        )


def _unmeasured(log_policy: Pair) -> Candidate:
    """A policy as a candidate that any measured one is better than."""
    infinity = jnp.full((), jnp.inf, log_policy[0].dtype)
    return Candidate(log_policy, infinity, infinity, jnp.zeros((), int))


@jax.jit
def _init(algorithm: Algorithm, game: Game, log_policy: Pair) -> Any:
    return algorithm.init(game, log_policy)


@jax.jit
def _chunk(
    algorithm: Algorithm,
    game: Game,
    state: Any,
    candidate: Candidate,
    goal: Float[Array, ""] | float,
    max_iterations: Int[Array, ""] | int,
    check_every: Int[Array, ""] | int,
    rows_wanted: Int[Array, ""] | int,
) -> tuple[Any, Candidate, Rows]:
    """Iterate, with a row every `check_every` iterations, until NashConv <= goal, the limit, or the rows are full."""

    def unfinished(carry: tuple[Any, Candidate, Rows]) -> Array:
        state, candidate, rows = carry
        # a NaN compares false: a run that is no longer finite ends here
        going = (rows.filled == 0) | ((candidate.nash_conv > goal) & (state.iteration < max_iterations))
        return going & (rows.filled < rows_wanted)

    def check(carry: tuple[Any, Candidate, Rows]) -> tuple[Any, Candidate, Rows]:
        state, so_far, rows = carry
        until = jnp.minimum(state.iteration + check_every, max_iterations)
        state = jax.lax.while_loop(lambda s: s.iteration < until, lambda s: algorithm.step(game, s), state)
        newest, extra = algorithm.policy(game, state), algorithm.diagnostics(game, state)
        newest = jax.tree.map(lambda new, old: new.astype(old.dtype), newest, so_far)  # no weak types: one program
        candidate = smaller(newest, so_far) if algorithm.keeps_best else newest
        numbers = (candidate.nash_conv, extra.regularized_gap, candidate.value, extra.average_nash_conv)
        work = jnp.stack([state.iteration, state.gradient_evaluations])
        at = rows.filled
        return state, candidate, Rows(at + 1, rows.work.at[at].set(work), rows.numbers.at[at].set(jnp.stack(numbers)))

    empty = Rows(
        jnp.zeros((), int), jnp.zeros((CHUNK_ROWS, 2), int), jnp.zeros((CHUNK_ROWS, 4), candidate.nash_conv.dtype)
    )
    return jax.lax.while_loop(unfinished, check, (state, candidate, empty))


def describe(algorithm: Algorithm) -> dict[str, Any]:
    """Name and hyper-parameters of an algorithm, as plain numbers and strings."""
    names = (f.name for f in fields(cast("Any", algorithm)))
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


def _on_device(leaf: Any, dtype: np.dtype) -> Array:
    """A hyper-parameter as an array, so that another value does not compile another program."""
    return jnp.asarray(leaf, int if isinstance(leaf, int) else dtype)
