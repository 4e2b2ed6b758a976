"""Game: two treeplexes and a payoff operator. Every two-player zero-sum game with perfect recall has this form.

The row player (0) maximises x^T A y + offset over its plans x, the column player (1) minimises it over its plans y.
For an extensive-form game A is the sequence-form payoff matrix, chance probabilities included (von Stengel 1996); for
a matrix game it is the payoff matrix, bordered by the empty sequences.

Letters: S0, S1 sequences of the row and the column player; N non-zero payoffs. A `Game` is a pytree whose leaves are
host (NumPy) float64 and int32 arrays, so it keeps its precision whatever the caller's JAX settings are.
"""

import functools
import os
import reprlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mmd.game.payoff import Buckets, Dense, Entries, Sparse, typed
from mmd.game.sample import Sample
from mmd.game.treeplex import Treeplex
from mmd.host.notebook import MOST_ROWS, html_table

Pair = tuple[Float[Array, " _"], ...]  # the row player's, the column player's
HostPair = tuple[Float[np.ndarray, " _"], ...]
Number = Any  # a float or int; under JAX also an array, a tracer, or the placeholder of a pytree being rebuilt

DENSE_CELLS = 90_000  # trees up to 300 x 300 sequences use a dense operator
DENSE_SHARE = 0.25  # larger operators are dense from this share of non-zeros on
IN_FLOAT32 = (
    "the payoffs are float64 and JAX computes in float32 here: loop over init and step under `with mmd.float64():`, or "
    "ask for float32 with game.astype(jnp.float32)"
)
LOADERS = "magnetic_mirror.loaders"  # entry points: what makes a game of a name or a file
SHOWN = 7  # labels that a repr looks at
LESS_THAN_ONE = 0.5  # more than rounding leaves above 0 of log-probabilities


class GameError(ValueError):
    """The input is not a game that this package can solve; the message says what, where and what instead."""


@dataclass(frozen=True, repr=False)
class PlayerLabels:
    """Names for people: `infosets[j]`, and `actions[j][a]` in treeplex order. Any sequence will do, also a lazy one."""

    infosets: Sequence[str]
    actions: Sequence[Sequence[str]]

    def __repr__(self) -> str:
        infosets, actions = (reprlib.repr(list(islice(labels, SHOWN))) for labels in (self.infosets, self.actions))
        return f"PlayerLabels({len(self.infosets):,} infosets: {infosets}, {actions})"


@dataclass(frozen=True)
class Description:
    """What a game is called and how its numbers read; not seen by any solver.

    Attributes:
        name: the game's name, with its parameters.
        payoff_range: largest minus smallest payoff of an outcome, in the units of the input.
        offset: added to x^T A y to give the value in the units of the input.
        labels: names of the infosets and actions of both players; numbers where None.
        symmetric: the game is a symmetric preference or margin game, whose equilibrium is a lottery over the labels.
        facts: sentences worth reporting, such as who the Condorcet winner is.
        plays: works out the payoffs by coordinate of the same game if every play paid 1: how likely chance makes each
            pair of last own sequences. For algorithms that need more than payoffs; None if it is not known. Two
            descriptions may be equal whatever theirs are.
        sample: the comparisons that payoffs were estimated from, for `mmd.bootstrap`; None if it is not known.
    """

    name: str
    payoff_range: float
    offset: float = 0.0
    labels: tuple[PlayerLabels, PlayerLabels] | None = field(default=None, hash=False)  # they may be lists
    symmetric: bool = False
    facts: tuple[str, ...] = ()
    plays: Callable[[], Entries] | None = field(default=None, compare=False, repr=False)
    sample: Sample | None = field(default=None, compare=False, repr=False)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Game:
    """A two-player zero-sum game.

    Attributes:
        players: strategy spaces of the row (0) and the column player (1).
        payoff: A, [S0, S1], payoffs to the row player times chance probabilities.
        description: names and units. Under `jax.jit` a game that is an argument brings one program for each
            description. `mmd.solve` hands its programs a game without one, so that all games of one shape share them.
    """

    players: tuple[Treeplex, Treeplex]
    payoff: Dense | Sparse
    description: Description = field(metadata={"static": True})

    @classmethod
    def from_matrix(
        cls,
        payoffs: Float[np.ndarray, "m n"],
        *,
        name: str = "matrix",
        labels: tuple[Sequence[str], Sequence[str]] | None = None,
        offset: float = 0.0,
        symmetric: bool = False,
        facts: tuple[str, ...] = (),
    ) -> "Game":
        """The matrix game in which the row player receives `payoffs[i, j]`.

        A constant that dwarfs the differences between payoffs is taken out of them, into the offset (`common`).

        Args:
            payoffs: [m, n] finite payoffs to the row player.
            name: the game's name.
            offset: added to x^T A y to give the value in the units of the input.
            symmetric: whether this is a symmetric preference or margin game.
            facts: sentences worth reporting, such as who the Condorcet winner is.
            labels: names of the m rows and the n columns.

        Raises:
            GameError: the array is not a finite, non-empty matrix, or the labels do not fit it.
        """
        payoffs = checked_matrix(payoffs)
        labels = labels or (_numbered(payoffs.shape[0]), _numbered(payoffs.shape[1]))
        for n, given, player in zip(payoffs.shape, labels, ("row", "column"), strict=True):
            if len(given) != n:
                raise GameError(f"expected {n} labels for the {player} player, got {len(given)}")
            if len(set(given)) != n:
                twice = next(label for label in given if list(given).count(label) > 1)
                raise GameError(f"expected different labels for the {player} player's actions, got {twice!r} twice")
        constant = common(payoffs)
        bordered = np.zeros((payoffs.shape[0] + 1, payoffs.shape[1] + 1))
        bordered[1:, 1:] = payoffs - constant
        described = Description(
            name=name,
            payoff_range=float(payoffs.max()) - float(payoffs.min()),
            offset=offset + constant,
            labels=(PlayerLabels(("row",), (tuple(labels[0]),)), PlayerLabels(("column",), (tuple(labels[1]),))),
            symmetric=symmetric,
            facts=facts,
            plays=functools.partial(_every_pair, payoffs.shape),
        )
        return cls((Treeplex.simplex(payoffs.shape[0]), Treeplex.simplex(payoffs.shape[1])), Dense(bordered), described)

    @classmethod
    def from_entries(cls, players: tuple[Treeplex, Treeplex], entries: Entries, description: Description) -> "Game":
        """A game from its sequence-form payoffs by coordinate; entries at the same place are added.

        Args:
            players: the two strategy spaces.
            entries: payoffs to the row player times chance probabilities, in treeplex numbering of sequences.
            description: names and units.

        Raises:
            GameError: a payoff is NaN or infinite.
        """
        if not np.isfinite(entries.values).all():
            raise GameError(f"{description.name}: expected finite payoffs, got NaN or infinity")
        shape = (players[0].n_sequences, players[1].n_sequences)
        cell = np.asarray(entries.rows, np.int64) * shape[1] + np.asarray(entries.columns, np.int64)
        values = np.asarray(entries.values, np.float64)
        if not (np.diff(cell) > 0).all():
            cell, inverse = np.unique(cell, return_inverse=True)
            values = np.bincount(inverse, values, minlength=len(cell))
        rows, columns = np.divmod(cell, shape[1])
        if shape[0] * shape[1] <= DENSE_CELLS or len(cell) >= DENSE_SHARE * shape[0] * shape[1]:
            matrix = np.zeros(shape)
            matrix[rows, columns] = values
            return cls(players, Dense(matrix), description)
        by_row = Buckets.build(rows, columns, values, shape[0])
        return cls(players, Sparse(by_row, Buckets.build(columns, rows, values, shape[1])), description)

    def __repr__(self) -> str:
        infosets, sequences = (" + ".join(f"{n:,}" for n in counts) for counts in zip(*self._sizes(), strict=True))
        kind = type(self.payoff).__name__.lower()
        return f"Game({self.name}: {infosets} infosets, {sequences} sequences, {kind} payoffs)"

    def _repr_html_(self) -> str:
        """For notebooks: sizes, payoffs and facts; the matrix of a small matrix game."""
        infosets, sequences = (" + ".join(f"{n:,}" for n in counts) for counts in zip(*self._sizes(), strict=True))
        rows = [
            ("infosets, row + column", infosets),
            ("sequences, row + column", sequences),
            ("range of payoffs", self.description.payoff_range),
            *(("fact", fact) for fact in self.description.facts),
        ]
        return html_table(self.name, rows) + self._matrix_html()

    def _matrix_html(self) -> str:
        """The payoffs of a small matrix game, in the units of the input; else nothing."""
        labels = self.description.labels
        if not self.is_matrix or labels is None or max(n for _, n in self._sizes()) > MOST_ROWS + 1:
            return ""
        matrix = np.zeros((self.row.n_sequences, self.column.n_sequences))
        rows, columns, values = self.payoff.entries()
        matrix[rows, columns] = values
        payoffs = (matrix[1:, 1:] + self.description.offset).tolist()
        named = ((label, *row) for label, row in zip(labels[0].actions[0], payoffs, strict=True))
        return html_table("payoffs to the row player", named, ("", *labels[1].actions[0]))

    def _sizes(self) -> list[tuple[int, int]]:
        return [(player.n_infosets, player.n_sequences) for player in self.players]

    @property
    def row(self) -> Treeplex:
        """The row player's strategy space."""
        return self.players[0]

    @property
    def column(self) -> Treeplex:
        """The column player's strategy space."""
        return self.players[1]

    @property
    def name(self) -> str:
        """The game's name."""
        return self.description.name

    @property
    def is_matrix(self) -> bool:
        """Whether each player has a single information set."""
        return all(player.n_infosets == 1 for player in self.players)

    def gradient(self, player: int, opponent_plan: Float[Array, " S"]) -> Float[Array, " T"]:
        """Payoff gradient with respect to a player's own plan, in payoff units: A y or, for the column player, -A^T x.

        Warns where the game still lies in host memory in float64 and JAX computes in float32.
        """
        if not getattr(jax.config, "jax_enable_x64", True) and any(map(_on_host, jax.tree.leaves(self.payoff))):
            warnings.warn(IN_FLOAT32, stacklevel=2)
        if player == 0:
            return self.payoff.times(opponent_plan)
        return -self.payoff.transposed_times(opponent_plan)

    def astype(self, dtype: DTypeLike) -> "Game":
        """The same game with payoffs on the default device, in `dtype`."""
        return jax.device_put(jax.tree.map(lambda leaf: typed(leaf, dtype), self))


_LOADERS: list[Callable[[str], Game]] = []


def register_loader(load: Callable[[str], Game]) -> None:
    """Let `as_game` make games of names and files by this function; `games` does so when it is imported."""
    _LOADERS[:] = [load]


def as_game(given: Any) -> Game:
    """A game as it was given, or made of what was given.

    Args:
        given: a `Game`; an [m, n] array of payoffs to the row player; or a name or a file, as `games.load` takes them.

    Raises:
        GameError: it is none of these, or makes no game; or it is a name, and nothing here can load one.
    """
    if isinstance(given, Game):
        return given
    if isinstance(given, str | os.PathLike):
        return _loader()(os.fspath(given))
    refuse_traced(given)
    if given is None or (not isinstance(given, list | tuple) and not hasattr(given, "__array__")):
        raise GameError(f"expected a Game, a matrix of payoffs, or a game's name or file, got {given!r:.80}")
    return Game.from_matrix(checked_matrix(given))


def _loader() -> Callable[[str], Game]:
    """What loads names and files: this package knows no games, so it is registered, or installed as an entry point."""
    if not _LOADERS:
        from importlib.metadata import entry_points

        _LOADERS.extend(point.load() for point in entry_points(group=LOADERS))
    if not _LOADERS:
        raise GameError("expected a Game or an array: to load games by name or file, import games first")
    return _LOADERS[0]


def common(payoffs: Float[np.ndarray, " ..."]) -> float:
    """The middle of the payoffs if it lies further from 0 than they lie apart, else 0.

    Then every payoff is between half the middle and twice the middle, and differences are exact (Sterbenz 1974).
    """
    return far_middle(float(payoffs.min()), float(payoffs.max()))


def far_middle(low: float, high: float) -> float:
    """`common` of payoffs from `low` to `high`."""
    middle = low / 2 + high / 2
    return middle if abs(middle) > high - low else 0.0


def _on_host(leaf: Any) -> bool:
    """Whether JAX would make float32 of an array without being asked."""
    return isinstance(leaf, np.ndarray) and leaf.dtype == np.float64


def float64() -> AbstractContextManager[Any]:
    """A context in which JAX computes in float64, as `mmd.solve` does by itself.

    For loops over an algorithm's own `init` and `step`: outside, JAX makes float32 of the payoffs.
    """
    return jax.enable_x64(True)


def refuse_traced(*given: Any) -> None:
    """What runs on the host takes no arrays that JAX is tracing.

    Raises:
        GameError: there is one among the leaves of what is given.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        raise GameError(
            "mmd.solve and what makes games run on the host, outside jit, vmap and grad: solve many matrix games with "
            "mmd.solve_many, or trace an algorithm's own init and step"
        )


def arrays_of(policy: Any) -> HostPair:
    """Both players' arrays over sequences, float64: the probabilities of a `mmd.Policy`, or a pair of arrays as it is.

    Raises:
        GameError: it is neither.
    """
    try:
        row, column = (np.asarray(array, np.float64) for array in getattr(policy, "probabilities", policy))
        if row.ndim != 1 or column.ndim != 1:
            raise ValueError
    except (TypeError, ValueError):
        inside = ": use its .policy" if hasattr(policy, "policy") else ""
        raise GameError(
            "expected a mmd.Policy, or a pair of arrays over sequences that hold probabilities or log-probabilities, "
            f"got {type(policy).__name__}{inside}"
        ) from None
    return row, column


def holds_logs(array: Float[np.ndarray, " S"]) -> bool:
    """Whether an array over sequences holds log-probabilities, not probabilities.

    Of an infoset's log-probabilities none is above 0, but for rounding, and its probabilities sum to 1.
    """
    return bool(np.maximum(array[1:], 0.0).sum() < LESS_THAN_ONE)


def checked_matrix(payoffs: Any) -> Float[np.ndarray, "m n"]:
    """A finite, non-empty matrix as a float64 array of its own; GameError says what it is instead.

    Complex, masked and text entries are refused: a conversion would change or invent payoffs.
    """
    try:
        if np.asarray(payoffs).dtype.kind in "cSUMm" or np.ma.is_masked(payoffs):
            raise TypeError
        payoffs = np.array(payoffs, np.float64)
    except (TypeError, ValueError):
        refuse_traced(payoffs)
        raise GameError("expected a matrix of numbers with rows of equal length, got something else") from None
    if payoffs.ndim != 2 or 0 in payoffs.shape:
        raise GameError(f"expected a non-empty matrix of payoffs, got an array of shape {payoffs.shape}")
    if not np.isfinite(payoffs).all():
        row, column = np.argwhere(~np.isfinite(payoffs))[0]
        raise GameError(f"expected finite payoffs, got {payoffs[row, column]} in row {row + 1}, column {column + 1}")
    return payoffs


def _every_pair(shape: tuple[int, int]) -> Entries:
    rows, columns = np.indices(shape).reshape(2, -1) + 1  # after the empty sequences
    return Entries(rows, columns, np.ones(rows.size))


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(n))
