"""Thousands of matrix games solved as one batch: a batched algorithm, a batched polish, a certificate for each game.

By default games go through an interior point method in three forms, as far as each needs them: the dense one, all games
at once (`mmd.algorithms.interior.equilibria`), polished; the sparse one, one by one; and what is still above its
tolerance goes on as follows. With an algorithm that is given, every game does.

Games of similar size share arrays (`mmd.game.padded`) and one compiled program, which advances a block of them at a
time. At iterations 32, 64, 128, ... every game is certified and, where it is near enough, polished
(`mmd.solving.crossover`); finished games leave, and blocks are made of those that go on. So a batch needs one program
for each octave of sizes, whatever its length, and no game waits for another longer than a block takes.

There the default is the last iterate of predictive regret matching+ (`pcfr+`): of the algorithms here it has the
cheapest step on a small matrix, without an exponential or a logarithm, and it names the supports after few of them. Any
other that is defined on matrix games will do.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from mmd.algorithms import contract
from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import (
    ITERATES,
    LAST,
    MOST_ITERATIONS,
    Algorithm,
    HostAlgorithm,
    asked,
    describe,
    resolved,
)
from mmd.algorithms.interior import Interior, equilibria
from mmd.algorithms.pcfr_plus import PredictiveCFRPlus
from mmd.game.game import Game, GameError, as_game, checked_matrix, far_middle
from mmd.game.padded import MULTIPLE, Matrices, alike, padded_game
from mmd.game.payoff import Dense
from mmd.measure.certificate import certify, certify_matrices, default_tolerances
from mmd.measure.solution import Solutions, Status
from mmd.measure.vertex import affordable, vertex
from mmd.solving import host_run
from mmd.solving.crossover import Strategies, polish_matrices
from mmd.solving.solver import EXTREME, FIRST_POLISH, UNNAMED, VERTEX_ITERATIONS

FIRST_CHECK = 32  # iterations; every check doubles them
BLOCK_CELLS = 2**14  # payoffs of a block, 128 KiB: more games at once are no faster, and the last ones wait for less
SMALLEST_BLOCK = 4  # games
CHECKED_CELLS = 2**22  # payoffs of the games that are certified and polished at once; a block's if time is limited
EXACT = 1e-14  # of the largest payoff: NashConv at which the polish tries no further guess
DENSE_CELLS = 2**17  # payoffs of the games that take their interior point together
POLISHED, INTERIOR = ITERATES.index("polished"), ITERATES.index("interior")
STATUSES = tuple(Status)
CONVERGED, UNFINISHED = STATUSES.index(Status.CONVERGED), -1
FINAL = (Status.CONVERGED, Status.PRECISION)  # of the interior point: no other method does better


def solve_many(
    games: Sequence[Game | np.ndarray | str | os.PathLike[str]] | np.ndarray,
    algorithm: Algorithm | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 100_000,
    time_limit: float | None = None,
    polish: bool = True,
) -> Solutions:
    """Nash equilibria of many two-player zero-sum matrix games, solved as one batch in float64.

    Args:
        games: payoff matrices to the row player, of any sizes, or matrix games. Names or files of matrix games will do,
            as `games.load` takes them, and so will one [G, m, n] array.
        algorithm: how; if None or `Auto()` the interior point method, and the last iterate of predictive regret
            matching+ for games that it does not solve.
        tolerance: bound on each exploitability, in payoff units; None for the default of `mmd.solve`, game by game.
        max_iterations: iterations allowed for a game.
        time_limit: seconds of solving allowed, compilation apart, looked at between blocks; None for no limit.
        polish: also polish the games that are near enough, at every check.

    Returns:
        `Solutions`: for each game the best certified strategies that were met, which iterate they are, and a status.
        Ctrl-C ends the batch with what has been reached.

    Raises:
        GameError: a game is no finite matrix or has a tree, an argument is out of range, or the algorithm is not
            defined on matrices.
    """
    limits = _Limits.checked(max_iterations, time_limit, polish)
    _check_algorithm(algorithm)
    if isinstance(games, Game | str | os.PathLike) or getattr(games, "ndim", 3) != 3:
        raise GameError("expected a sequence of games, got one: put it in a list")
    found = [as_game(game) if isinstance(game, str | os.PathLike) else game for game in games]
    given = [_given(game, place) for place, game in enumerate(found)]
    if not given:
        raise GameError("expected at least one game, got none")
    matrices = [one.payoffs for one in given]
    if tolerance is not None and not tolerance >= 0:
        raise GameError(f"expected a tolerance >= 0, got {tolerance}")
    seconds = {"compile": 0.0, "solve": 0.0}
    choose = algorithm is None or type(algorithm) is Auto
    algorithms, groups, multiple = _planned(None if choose else algorithm, found, matrices)
    runs = [_Run([given[i] for i in group], multiple, tolerance) for group in groups]
    with jax.enable_x64(True):
        try:
            for run, group in zip(runs, groups, strict=True):
                if choose:
                    run.interior(limits, seconds)
                run.until_done([algorithms[i] for i in group], limits, seconds)
        except KeyboardInterrupt:
            for run in runs:
                run.interrupt()
    by_interior = _joined(groups, [run.by_interior for run in runs])
    return Solutions(
        games=found,
        algorithm=_description(algorithms if any(run.iterated for run in runs) else [Interior()]),
        methods=np.where(by_interior, Interior.name, algorithms[0].name).tolist(),
        row=_joined(groups, [run.strategies[0] for run in runs])[:, : max(a.shape[0] for a in matrices)],
        column=_joined(groups, [run.strategies[1] for run in runs])[:, : max(a.shape[1] for a in matrices)],
        values=_joined(groups, [run.values for run in runs]) + [one.offset for one in given],
        nash_conv=_joined(groups, [run.nash_conv for run in runs]),
        statuses=[STATUSES[i] for i in _joined(groups, [run.statuses for run in runs])],
        iterates=[ITERATES[i] for i in _joined(groups, [run.iterates for run in runs])],
        iterations=_joined(groups, [run.iterations for run in runs]),
        faces=_joined(groups, [run.faces for run in runs]),
        tolerances=_joined(groups, [run.targets for run in runs]) / 2,
        seconds=seconds,
    )


class _Limits(NamedTuple):
    """When to stop, apart from the tolerances; whether to polish."""

    max_iterations: int
    time_limit: float | None
    polish: bool

    @classmethod
    def checked(cls, max_iterations: int, time_limit: float | None, polish: bool) -> "_Limits":
        """GameError names what is out of range."""
        if not isinstance(max_iterations, int | np.integer) or not 0 <= max_iterations <= MOST_ITERATIONS:
            raise GameError(
                f"expected an integer max_iterations >= 0 and at most {MOST_ITERATIONS}, got {max_iterations}"
            )
        if time_limit is not None and not time_limit > 0:
            raise GameError(f"expected a time limit > 0 seconds, got {time_limit}")
        return cls(int(max_iterations), time_limit, polish)

    def reached(self, iterations: int, seconds: float) -> Status | None:
        """The limit that a run is at, if any."""
        if iterations >= self.max_iterations:
            return Status.ITERATION_LIMIT
        return Status.TIME_LIMIT if self.time_limit is not None and seconds >= self.time_limit else None


class _Run:
    """The host side of a batch of games that share arrays: what each has reached, and which go on."""

    def __init__(self, given: list["_Given"], multiple: int, tolerance: float | None) -> None:
        games, count = Matrices.of([one.payoffs for one in given], multiple), len(given)
        self.games, self.tolerance = games, tolerance
        self.ranges = np.array([one.range for one in given])
        self.polish_at = 2 * FIRST_POLISH * self.ranges
        row, column = (there / there.sum(axis=1, keepdims=True) for there in games.exist)
        self.strategies: Strategies = (row, column)
        certificates = certify_matrices(games.payoffs, games.exist, self.strategies)
        self.values, self.nash_conv = certificates.values, certificates.nash_conv
        self.iterates, self.iterations, self.faces = np.full(count, LAST), np.zeros(count, int), np.zeros(count, int)
        self.targets = np.full(count, np.nan if tolerance is None else 2 * tolerance)
        self.vertices = np.zeros(count, bool)  # which games had an exact vertex tried
        self.iterated = False  # whether the algorithm was needed
        self.by_interior = np.zeros(count, bool)  # which strategies the interior point found
        self._aim(np.arange(count))
        self.statuses = np.where(self.nash_conv <= self.targets, CONVERGED, UNFINISHED)

    def _aim(self, block: Int[np.ndarray, " H"]) -> None:
        """The NashConv at which games are solved: by default it follows the best strategies so far."""
        if self.tolerance is None:
            games, strategies = self.games.at(block), (self.strategies[0][block], self.strategies[1][block])
            self.targets[block] = 2 * default_tolerances(games.payoffs, games.exist, strategies)

    def interior(self, limits: _Limits, seconds: dict[str, float]) -> None:
        """The interior point of every game: all at once, then those that are left one by one."""
        begun, before = time.perf_counter(), seconds["solve"]
        self.by_interior[:] = True
        for block in _slices(self._going(), max(1, DENSE_CELLS // self.games.payoffs[0].size)):
            if limits.reached(0, seconds["solve"]):
                break
            found = equilibria(self.games.at(block), limits.max_iterations)
            self.iterations[block] = found.iterations
            self._check(block, np.full(len(block), INTERIOR), found.strategies, limits.polish)
            seconds["solve"] = before + time.perf_counter() - begun
        for at in self._going().tolist():
            if limits.reached(0, seconds["solve"]):
                break
            self._interior_of(at, limits)
            seconds["solve"] = before + time.perf_counter() - begun

    def _interior_of(self, at: int, limits: _Limits) -> None:
        """The interior point of one game in the sparse form, which resolves more."""
        game = self._game(at)
        allowed = contract.Limits(self.tolerance, limits.max_iterations, limits.time_limit, 1)
        found = host_run.solve(game, Interior(), allowed, None)
        if found.nash_conv < self.nash_conv[at]:
            self._take(at, found.policy.probabilities, INTERIOR)
            self.iterations[at] = found.iterations
            self.statuses[at] = STATUSES.index(found.status) if found.status in FINAL else UNFINISHED

    def _going(self) -> Int[np.ndarray, " H"]:
        """The games without a status."""
        return np.flatnonzero(self.statuses == UNFINISHED)

    def _game(self, at: int) -> Game:
        """One of the games by itself."""
        rows, columns = (int(there[at].sum()) for there in self.games.exist)
        return Game.from_matrix(self.games.payoffs[at, :rows, :columns])

    def until_done(self, algorithms: Sequence[Algorithm], limits: _Limits, seconds: dict[str, float]) -> None:
        """Round after round, each doubling the iterations, until every game has a status."""
        if len(self._going()) == 0:
            return
        self.iterated = True
        program = _Program(_stacked(algorithms), self.games, seconds)
        done = 0
        while len(going := self._going()):
            if limit := limits.reached(done, seconds["solve"]):
                self.statuses[going] = STATUSES.index(limit)
                break
            until = min(max(2 * done, FIRST_CHECK), limits.max_iterations)
            at_once = CHECKED_CELLS // self.games.payoffs[0].size if limits.time_limit is None else 0
            for block in _slices(going, max(program.size, at_once)):
                if limits.reached(0, seconds["solve"]):
                    break
                begun = time.perf_counter()
                iterates, strategies = program.advance(block, until - done)
                self.iterations[block] = until
                self._check(block, iterates, strategies, limits.polish)
                seconds["solve"] += time.perf_counter() - begun
            done = until

    def interrupt(self) -> None:
        """Give what goes on its last status; certify again, since the interrupt may have come between two arrays."""
        certificates = certify_matrices(self.games.payoffs, self.games.exist, self.strategies)
        self.values, self.nash_conv = certificates.values, certificates.nash_conv
        going = self.statuses == UNFINISHED
        self.statuses[going] = STATUSES.index(Status.INTERRUPTED)
        self.statuses[going & (self.nash_conv <= self.targets)] = CONVERGED

    def _check(self, block: Int[np.ndarray, " H"], iterates: np.ndarray, strategies: Strategies, polish: bool) -> None:
        """Certify the newest strategies of some games, polish those that are near, and note who is done."""
        finite = np.isfinite(strategies[0]).all(axis=1) & np.isfinite(strategies[1]).all(axis=1)
        self.statuses[block[~finite]] = STATUSES.index(Status.NONFINITE)
        block, iterates = block[finite], iterates[finite]
        row, column = (p[finite] / p[finite].sum(axis=1, keepdims=True) for p in strategies)
        nash_conv = self._keep_better(block, (row, column), iterates)
        self._aim(block)
        near = (self.nash_conv[block] > self.targets[block]) & (nash_conv <= self.polish_at[block])
        if polish and near.any():
            at = block[near]
            exact = EXACT * np.abs(self.games.payoffs[at]).max(axis=(1, 2)) if self.tolerance is not None else 0.0
            goals = np.maximum(exact, self.targets[at])
            polished = polish_matrices(self.games.at(at), (row[near], column[near]), goals)
            self.faces[at] += polished.faces
            self._keep_better(at, polished.strategies, np.full(len(at), POLISHED))
        self._aim(block)
        if polish:
            self._try_vertices(block)
        self.statuses[block[self.nash_conv[block] <= self.targets[block]]] = CONVERGED

    def _try_vertices(self, block: Int[np.ndarray, " H"]) -> None:
        """Exact vertices of small games that the polish does not solve, one by one.

        Where one payoff dwarfs play, what is at stake may look larger at near strategies than it is, so there a vertex
        is tried also of what seems solved.
        """
        extreme = (self.targets[block] < 2 * EXTREME * self.ranges[block]) & (self.tolerance is None)
        late = (self.iterations[block] >= VERTEX_ITERATIONS) & (self.nash_conv[block] > self.targets[block])
        wanted = (extreme | late) & ~self.vertices[block]
        for at in block[wanted].tolist():
            self.vertices[at] = True
            game = self._game(at)
            if affordable(game):
                row, column = (
                    np.concatenate([[1.0], p[at, : player.n_sequences - 1]])
                    for p, player in zip(self.strategies, game.players, strict=True)
                )
                self._take(at, vertex(game, (row, column)), POLISHED)
                self.faces[at] += 1

    def _take(self, at: int, found: Any, iterate: int) -> None:
        """Take over policies of one game, whose certificate by itself counts for more than one in float64 alone."""
        certificate = certify(self._game(at), found)
        for into, new in zip(self.strategies, found, strict=True):
            into[at, : len(new) - 1] = new[1:]
        self.values[at], self.nash_conv[at], self.iterates[at] = certificate.value, certificate.nash_conv, iterate
        if self.tolerance is None:
            self.targets[at] = 2 * certificate.default_tolerance
            if certificate.unresolved:
                self.statuses[at] = STATUSES.index(Status.PRECISION)

    def _keep_better(
        self, block: Int[np.ndarray, " H"], strategies: Strategies, iterates: Int[np.ndarray, " H"]
    ) -> Float[np.ndarray, " H"]:
        """Take over the strategies that are certified to be better than the best so far; their NashConv."""
        games = self.games.at(block)
        certificates = certify_matrices(games.payoffs, games.exist, strategies)
        better = certificates.nash_conv < self.nash_conv[block]
        at = block[better]
        for into, new in zip(self.strategies, strategies, strict=True):
            into[at] = new[better]
        self.values[at], self.nash_conv[at] = certificates.values[better], certificates.nash_conv[better]
        self.iterates[at] = iterates[better]
        self.by_interior[at] &= not self.iterated
        return certificates.nash_conv


class _Program:
    """The device side: the algorithm's `init`, `step` and `policy`, vmapped over blocks of games that share arrays."""

    def __init__(self, algorithms: Any, games: Matrices, seconds: dict[str, float]) -> None:
        """Compile, and bring every game to its algorithm's first state.

        Args:
            algorithms: one for each game, stacked.
            games: all of one program.
            seconds: where the time is added.
        """
        self.algorithms, self.games = algorithms, games
        count = len(games.payoffs)
        self.size = max(SMALLEST_BLOCK, 1 << (BLOCK_CELLS // games.payoffs[0].size).bit_length() >> 1)
        begun = time.perf_counter()
        states = self._begun(np.arange(count)[: self.size])
        self.states = jax.tree.map(lambda new: np.zeros((count, *new.shape[1:]), new.dtype), states)
        self._advanced(np.arange(count)[: self.size], 0)
        seconds["compile"] += time.perf_counter() - begun
        begun = time.perf_counter()
        for block in _slices(np.arange(count), self.size):
            self._store(block, self._begun(block))
        seconds["solve"] += time.perf_counter() - begun

    def advance(self, games: Int[np.ndarray, " H"], steps: int) -> tuple[Int[np.ndarray, " H"], Strategies]:
        """Iterate some games, block by block; which iterates come out, and the strategies of both players."""
        found = []
        for block in _slices(games, self.size):
            states, *policies = self._advanced(block, steps)
            self._store(block, states)
            found.append(jax.tree.map(lambda leaf: leaf[: len(block)], policies))  # noqa: B023 - called at once
        iterates, (row, column) = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
        return iterates, (np.exp(row[:, 1:]), np.exp(column[:, 1:]))

    def _begun(self, block: Int[np.ndarray, " B"]) -> Any:
        filled = np.resize(block, self.size)
        return jax.device_get(_begin(_taken(self.algorithms, filled), self.games.at(filled)))

    def _advanced(self, block: Int[np.ndarray, " B"], steps: int) -> Any:
        filled = np.resize(block, self.size)
        return jax.device_get(
            _advance(_taken(self.algorithms, filled), self.games.at(filled), _taken(self.states, filled), steps)
        )

    def _store(self, block: Int[np.ndarray, " B"], states: Any) -> None:
        for into, new in zip(jax.tree.leaves(self.states), jax.tree.leaves(states), strict=True):
            into[block] = new[: len(block)]


def _slices(games: Int[np.ndarray, " H"], size: int) -> Iterator[Int[np.ndarray, " B"]]:
    """Consecutive parts of at most so many games."""
    return (games[start : start + size] for start in range(0, len(games), size))


def _taken(stacked: Any, games: Int[np.ndarray, " B"]) -> Any:
    return jax.tree.map(lambda leaf: leaf[games], stacked)


def _check_algorithm(algorithm: Any) -> None:
    """That it is an algorithm whose steps can be compiled, or None."""
    if isinstance(algorithm, type) or not isinstance(algorithm, Algorithm | HostAlgorithm | None):
        raise GameError(f"expected an algorithm such as mmd.Auto(), got {algorithm!r}")
    if isinstance(algorithm, HostAlgorithm):
        raise GameError(f"{algorithm.name} runs on the host, and solve_many compiles its method: use mmd.solve")


def _stacked(algorithms: Sequence[Algorithm]) -> Any:
    """Algorithms that differ in numbers only as one, whose leaves have an axis of games in front."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *algorithms)


def _planned(
    algorithm: Algorithm | None, games: Sequence[Game | np.ndarray], matrices: list[np.ndarray]
) -> tuple[Sequence[Algorithm], list[Int[np.ndarray, " _"]], int]:
    """An algorithm for each game, which games share a program, and what their arrays' sizes are multiples of."""
    if algorithm is None:
        one = PredictiveCFRPlus(iterate=ITERATES[LAST]).resolve(Game.from_matrix(np.zeros((2, 2))))
        return [one] * len(games), alike(matrices), MULTIPLE
    of = [game if isinstance(game, Game) else Game.from_matrix(game) for game in games]
    first = [resolved(algorithm, game) for game in of[:1]]
    algorithms = [*first, *(asked(algorithm, "resolve", algorithm.resolve, game) for game in of[1:])]
    return algorithms, _same_program(matrices, algorithms), 1


def _same_program(matrices: list[np.ndarray], algorithms: Sequence[Algorithm]) -> list[Int[np.ndarray, " _"]]:
    """Which games have one shape, and algorithms that differ in numbers only."""
    kinds: dict[Any, list[int]] = {}
    for i, (matrix, algorithm) in enumerate(zip(matrices, algorithms, strict=True)):
        kinds.setdefault((matrix.shape, jax.tree.structure(algorithm)), []).append(i)
    return [np.array(group) for group in kinds.values()]


def _description(algorithms: Sequence[Algorithm | HostAlgorithm]) -> dict[str, Any]:
    """Name and hyper-parameters; a list with a number for each game where they differ."""
    found = [describe(one) for one in algorithms] if algorithms[0] is not algorithms[-1] else [describe(algorithms[0])]
    return {
        name: value if all(one[name] == value for one in found) else [one[name] for one in found]
        for name, value in found[0].items()
    }


@jax.jit
def _begin(algorithms: Any, games: Matrices) -> Any:
    """The states of the algorithms at uniform play."""

    def begin(algorithm: Algorithm, payoffs: Any, rows: Any, columns: Any) -> Any:
        game = padded_game(payoffs, rows, columns, UNNAMED)
        uniform: Any = (game.row.uniform(), game.column.uniform())
        return algorithm.init(game, uniform)

    return jax.vmap(begin)(algorithms, *games)


@jax.jit
def _advance(algorithms: Any, games: Matrices, states: Any, steps: Any) -> Any:
    """The states some steps later, which iterates the policies are, and their logarithms."""

    def step(algorithm: Algorithm, payoffs: Any, rows: Any, columns: Any, state: Any) -> Any:
        return algorithm.step(padded_game(payoffs, rows, columns, UNNAMED), state)

    def policy(algorithm: Algorithm, payoffs: Any, rows: Any, columns: Any, state: Any) -> Any:
        found = algorithm.policy(padded_game(payoffs, rows, columns, UNNAMED), state)
        return found.iterate, found.log_policy

    states = jax.lax.fori_loop(0, steps, lambda _, s: jax.vmap(step)(algorithms, *games, s), states)
    return states, *jax.vmap(policy)(algorithms, *games, states)


class _Given(NamedTuple):
    """A game of the batch.

    Attributes:
        payoffs: without a constant that dwarfs their differences.
        offset: what is added to payoffs to give values in the units of the input.
        range: the largest payoff minus the smallest.
    """

    payoffs: Float[np.ndarray, "m n"]
    offset: float
    range: float


def _given(game: Game | np.ndarray, place: int) -> _Given:
    """The game at a place of the batch."""
    if isinstance(game, Game):
        if not (game.is_matrix and isinstance(game.payoff, Dense)):
            raise GameError(f"game {place} of the batch: expected a matrix game, got the tree {game.name}")
        payoffs, offset = np.asarray(game.payoff.matrix, np.float64)[1:, 1:], game.description.offset
    else:
        try:
            payoffs, offset = checked_matrix(game), 0.0
        except GameError as error:
            raise GameError(f"game {place} of the batch: {error}") from None
    low, high = float(payoffs.min()), float(payoffs.max())
    if high / 2 - low / 2 > np.finfo(np.float64).max / 2:
        raise GameError(f"game {place} of the batch: expected payoffs whose range float64 can hold: scale them down")
    constant = far_middle(low, high)  # of a Game it is in the offset already, and 0 here
    return _Given(payoffs - constant, offset + constant, high - low)


def _joined(groups: list[Int[np.ndarray, " _"]], parts: list[np.ndarray]) -> np.ndarray:
    """Arrays of the groups' games as one in the order of the batch, filled up with zeros."""
    count, wide = sum(map(len, groups)), max(parts, key=lambda part: part.shape[1:])
    joined = np.zeros((count, *wide.shape[1:]), wide.dtype)
    for group, part in zip(groups, parts, strict=True):
        joined[group, *(slice(length) for length in part.shape[1:])] = part
    return joined
