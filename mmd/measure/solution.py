"""What `solve` returns: the policy, its certificate, how it was found, and the trace of the run."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from jaxtyping import Bool, Float, Int

from mmd.game.game import Game, GameError
from mmd.game.policy import Policy
from mmd.host.notebook import MOST_ROWS, data_frame, html_columns, html_table
from mmd.measure import theory
from mmd.measure.certificate import Certificate
from mmd.measure.figure import Curve, Look, Scale, Style, X, draw_convergence, method_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Status(Enum):
    """Why a run ended. The value is the sentence that users read."""

    CONVERGED = "converged: the exploitability of the returned policy is at most the tolerance"
    REGULARIZED = (
        "converged to the equilibrium of the regularized game only: "
        "the exploitability in the original game is above the tolerance"
    )
    MAGNET_MOVING = (
        "stopped at the iteration limit while the magnet was moving: the exploitability is above the tolerance, though "
        "the game regularized towards the newest magnet is solved; allow more iterations, or a magnet that moves faster"
    )
    ITERATION_LIMIT = "stopped at the iteration limit before the exploitability reached the tolerance"
    TIME_LIMIT = "stopped at the time limit before the exploitability reached the tolerance"
    PRECISION = "stopped at the precision of the arithmetic, above the tolerance: what is left is rounding"
    NONFINITE = "stopped because the iterate was no longer finite; the policy is the last finite one"
    ENDED = "ended by itself, above the tolerance: the algorithm comes no closer to an equilibrium of this game"
    INTERRUPTED = "interrupted by the user; the policy is the one reached so far"


OnCheck = Callable[[dict[str, float]], None]  # called with the newest row of the trace

ANTISYMMETRY = 1e-9  # of the payoff range: what rounding may leave of A + A^T, less its mean
TRACE_COLUMNS = (
    "iteration",
    "gradient_evaluations",
    "seconds",
    "exploitability",
    "nash_conv",
    "regularized_gap",
    "value",
    "average_exploitability",
)


COUNTS = ("iteration", "gradient_evaluations")  # columns of whole numbers


@dataclass(frozen=True)
class Certified:
    """A policy, which iterate it is, and its certificate."""

    policy: Policy
    iterate: str
    certificate: Certificate


@dataclass(frozen=True, repr=False)
class Trace:
    """One row a check, as columns.

    Attributes:
        columns: `TRACE_COLUMNS` -> [checks]. Exploitability is that of the policy that would be returned at that check;
            NaN where an algorithm has no such quantity. Seconds are solve time, compilation apart.
    """

    columns: dict[str, Float[np.ndarray, " checks"]]

    def __repr__(self) -> str:
        return f"Trace({len(self)} checks of {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        """For notebooks: some checks, from the first to the last, and the columns that hold numbers."""
        return html_columns(f"trace of {len(self):,} checks", self.columns, COUNTS)

    def to_pandas(self) -> Any:
        """The columns as a `pandas.DataFrame`, a row for each check.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame(self.columns)

    def __getitem__(self, column: str) -> Float[np.ndarray, " checks"]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns["iteration"])


@dataclass(frozen=True, repr=False)
class Solution:
    """A policy profile with its certificate.

    Attributes:
        game: what was solved.
        algorithm: name and resolved hyper-parameters.
        policy: the returned policies of both players.
        iterate: which iterate they are: "last", "average", "polished" or "interior".
        status: why the run ended, as a sentence; `converged` is whether the tolerance was reached.
        tolerance: bound asked of the exploitability, in payoff units.
        value: payoff of the row player under the policy, in the units of the input.
        nash_conv: sum of both players' best-response gains, from `mmd.measure.certificate` (float64, independent code).
        exploitability: nash_conv / 2.
        regularized_gap: duality gap of the regularized game at the last iterate; None where there is none.
        iterations, gradient_evaluations: how much work (one evaluation = one pair A y, A^T x), the polish's included.
        seconds: {"compile", "solve"}.
        dtype: of the iteration; certificates are always float64.
        trace: the algorithm's run, check by check; a polished policy is not in it.
        polish: what the polish did; None if it was not tried. Of each try `tries` has the iteration, the run's gradient
            evaluations and seconds, how many faces were guessed, and NashConv before and after. All tries took
            `gradient_evaluations` and `seconds` together; its budget counts `modelled_seconds`.
    """

    game: Game
    algorithm: dict[str, Any]
    policy: Policy
    iterate: str
    status: Status
    tolerance: float
    value: float
    nash_conv: float
    regularized_gap: float | None
    iterations: int
    gradient_evaluations: int
    seconds: dict[str, float]
    dtype: str
    trace: Trace
    polish: dict[str, Any] | None = field(default=None)

    def __repr__(self) -> str:
        return (
            f"Solution({self.game.name} by {self.method}: value {self.value:.10g}, exploitability "
            f"{self.exploitability:.2e} ({self.iterate} iterate); {self.status.value})"
        )

    @property
    def method(self) -> str:
        """The method that found the policy, as a heading or a figure names it."""
        return method_of(self.algorithm)

    @property
    def exploitability(self) -> float:
        """NashConv / 2, certified, in payoff units."""
        return self.nash_conv / 2

    @property
    def converged(self) -> bool:
        """Whether the certified exploitability is at most the tolerance."""
        return self.status is Status.CONVERGED

    @property
    def summary(self) -> dict[str, Any]:
        """The solution in plain words and numbers, name -> value: a row of a table of solutions."""
        return {
            "game": self.game.name,
            "algorithm": self.algorithm["name"],
            "iterate": self.iterate,
            "status": self.status.value,
            "converged": self.converged,
            "value": self.value,
            "exploitability": self.exploitability,
            "tolerance": self.tolerance,
            "iterations": self.iterations,
            "gradient_evaluations": self.gradient_evaluations,
            "seconds": sum(self.seconds.values()),
        }

    @property
    def curve(self) -> Curve:
        """The run as a line of a figure: the exploitability of the returned policy against work."""
        about = self.game.description
        measured = (self.tolerance, self.iterate, self.exploitability, self.algorithm)
        settled = self.status is Status.REGULARIZED
        return Curve(about.name, about.payoff_range, *measured, self.trace.columns, self.proven_factor, settled)

    @property
    def proven_factor(self) -> float | None:
        """The factor by which KL to the regularized equilibrium is proven to fall in an iteration, None if by none."""
        return theory.proven_factor(self.game, self.algorithm)

    @overload
    def plot(
        self,
        x: X = ...,
        path: str | os.PathLike[str] | None = ...,
        *,
        y: str = ...,
        xscale: Scale = ...,
        ax: None = ...,
        style: Style | None = ...,
    ) -> "Figure": ...
    @overload
    def plot(
        self,
        x: X = ...,
        path: str | os.PathLike[str] | None = ...,
        *,
        y: str = ...,
        xscale: Scale = ...,
        ax: "Axes",
        style: Style | None = ...,
    ) -> "Axes": ...
    def plot(
        self,
        x: X = "gradient_evaluations",
        path: str | os.PathLike[str] | None = None,
        *,
        y: str = "exploitability",
        xscale: Scale = "linear",
        ax: "Axes | None" = None,
        style: Style | None = None,
    ) -> "Figure | Axes":
        """Exploitability of the returned policy against work; `mmd.plot_convergence` draws several runs.

        Arguments, result and errors are those of `mmd.plot_convergence`. `x` is "iterations", "gradient_evaluations" or
        "seconds", `path` the file to write, and `y` another column of the trace. `xscale` is "linear" or "log", `ax`
        are axes to draw into, and `style` may be "paper".
        """
        return draw_convergence({self.method: self.curve}, Look(x, y, xscale, style), path, ax)

    def _repr_html_(self) -> str:
        """For notebooks: the method, the summary, and the policy of a matrix game."""
        policy = self.policy._repr_html_() if self.game.is_matrix else ""
        return html_table(f"{self.game.name} by {self.method}", self.summary.items()) + policy

    def to_pandas(self) -> Any:
        """The summary as a `pandas.DataFrame` of one row; `trace` and `policy` have tables of their own.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame({name: [value] for name, value in self.summary.items()})


@dataclass(frozen=True, repr=False)
class Solutions(Sequence[Solution]):
    """The solutions of a batch, in the order of the games; an item is a `Solution`, made when asked for.

    Attributes:
        games: what was solved, payoff matrices or games as they were given.
        algorithm: name and hyper-parameters.
        methods: which method found each strategy: a name for each.
        row, column: [G, m], [G, n] the strategies, filled up with zeros to the largest game.
        values: [G] payoff of the row player, in the units of the input.
        nash_conv: [G] certified sum of both players' best-response gains, in payoff units.
        statuses: why each game ended.
        iterates: which iterate each strategy is: a name for each.
        iterations, faces: how much work each took: iterations, and guesses of the polish.
        tolerances: what was asked of each exploitability, in payoff units.
        seconds: {"compile", "solve"} of the whole batch.
    """

    games: Sequence[Game | np.ndarray]
    algorithm: dict[str, Any]
    methods: list[str]
    row: Float[np.ndarray, "G m"]
    column: Float[np.ndarray, "G n"]
    values: Float[np.ndarray, " G"]
    nash_conv: Float[np.ndarray, " G"]
    statuses: list[Status]
    iterates: list[str]
    iterations: Int[np.ndarray, " G"]
    faces: Int[np.ndarray, " G"]
    tolerances: Float[np.ndarray, " G"]
    seconds: dict[str, float]

    def __repr__(self) -> str:
        worst = f", largest exploitability {self.exploitability.max():.2e}" if len(self) else ""
        return f"Solutions({len(self)} games by {self.method}, {int(self.converged.sum())} converged{worst})"

    @property
    def method(self) -> str:
        """The methods that found the strategies, as a heading names them."""
        return " and ".join(method_of({"name": name}) for name in sorted(set(self.methods)))

    def _repr_html_(self) -> str:
        """For notebooks: how many converged, and the summaries of the first."""
        first = [one.summary for one in islice(self, MOST_ROWS)]
        caption = f"{len(self):,} solutions by {self.method}, {int(self.converged.sum()):,} converged"
        return html_table(caption, (list(one.values()) for one in first), list(first[0]) if first else (), len(self))

    def to_pandas(self) -> Any:
        """The summaries as a `pandas.DataFrame`, a row for each game; seconds are those of the whole batch.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        rows = [one.summary for one in self]
        return data_frame({name: [row[name] for row in rows] for name in (rows[0] if rows else ())})

    def __len__(self) -> int:
        return len(self.games)

    @overload
    def __getitem__(self, index: int) -> Solution: ...
    @overload
    def __getitem__(self, index: slice) -> list[Solution]: ...
    def __getitem__(self, index: int | slice) -> Solution | list[Solution]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        given, name = self.games[index], self.methods[index]
        game = given if isinstance(given, Game) else Game.from_matrix(given)
        row, column = (
            np.concatenate([[1.0], p[index, : player.n_sequences - 1]])
            for p, player in zip((self.row, self.column), game.players, strict=True)
        )
        return Solution(
            game=game,
            algorithm=self.algorithm if name == self.algorithm["name"] else {"name": name},
            policy=Policy(game, (row, column)),
            iterate=self.iterates[index],
            status=self.statuses[index],
            tolerance=float(self.tolerances[index]),
            value=float(self.values[index]),
            nash_conv=float(self.nash_conv[index]),
            regularized_gap=None,
            iterations=int(self.iterations[index]),
            gradient_evaluations=int(self.iterations[index] + self.faces[index]),
            seconds=self.seconds,
            dtype="float64",
            trace=Trace({column: np.zeros(0) for column in TRACE_COLUMNS}),
        )

    @property
    def exploitability(self) -> Float[np.ndarray, " G"]:
        """[G] certified NashConv / 2 of each game, in payoff units."""
        return self.nash_conv / 2

    @property
    def converged(self) -> Bool[np.ndarray, " G"]:
        """[G] whether the certified exploitability of each game is at most its tolerance."""
        return np.array([status is Status.CONVERGED for status in self.statuses], bool)

    @property
    def lotteries(self) -> Float[np.ndarray, "G m"]:
        """The mean of both players' strategies: the maximal lotteries of symmetric games, A + A^T the same everywhere.

        NaN for a game that is not symmetric.

        Raises:
            GameError: a game is not square.
        """
        if self.row.shape != self.column.shape:
            raise GameError("these games have no lotteries: expected as many rows as columns")
        found = (self.row + self.column) / 2
        for place, game in enumerate(self.games):
            payoffs = np.asarray(cast("Any", game).payoff.matrix[1:, 1:] if isinstance(game, Game) else game)
            if payoffs.shape[0] != payoffs.shape[1] or np.ptp(payoffs + payoffs.T) > ANTISYMMETRY * np.ptp(payoffs):
                found[place] = np.nan
        return found
