"""Matrix games: an array of payoffs to the row player."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from games.labels import told_apart, unique_labels
from mmd.game.game import Game, GameError, refuse_traced
from mmd.game.sample import Pairs

NOT_REAL = "cSUMmO"  # kinds of arrays: complex numbers, texts, times, and objects that have to be looked at
Numbers = np.ndarray | Sequence[Sequence[float | int | None]]


def game(payoffs: Numbers, *, labels: tuple[Sequence[str], Sequence[str]] | None = None, name: str = "matrix") -> Game:
    """The zero-sum game in which the row player receives `payoffs[i, j]` from the column player.

    Args:
        payoffs: [m, n] finite numbers.
        labels: names of the m rows and the n columns; repeated ones get a suffix, and a fact says so.
        name: the game's name.

    Raises:
        GameError: not a finite, non-empty matrix, or labels that do not fit it.
    """
    facts = () if labels is None else told_apart(*labels)
    if labels is not None:
        labels = (unique_labels(labels[0]), unique_labels(labels[1]))
    return Game.from_matrix(as_matrix(payoffs), name=name, labels=labels, facts=facts)


def from_counts(
    wins: Numbers,
    losses: Numbers,
    ties: Numbers | None = None,
    *,
    labels: tuple[Sequence[str], Sequence[str]] | None = None,
    name: str = "comparisons",
) -> Game:
    """The zero-sum game in which the row player receives its share of wins, a tie counted half.

    Args:
        wins, losses: [m, n] how often the row's action won against the column's, and lost; whole numbers.
        ties: [m, n] how often neither won; none if None.
        labels: names of the m rows and the n columns; repeated ones get a suffix, and a fact says so.
        name: the game's name.

    Raises:
        GameError: not such counts, or a pair without any comparison; the message names it.
    """
    won, lost = as_counts(wins), as_counts(losses)
    drawn = np.zeros_like(won) if ties is None else as_counts(ties)
    if not won.shape == lost.shape == drawn.shape:
        shapes = f"{won.shape}, {lost.shape} and {drawn.shape}"
        raise GameError(f"expected as many losses and ties as wins, got arrays of shapes {shapes}")
    sample = Pairs(won, lost, drawn, symmetric=False)
    rows, columns = labels or ([str(i) for i in range(won.shape[0])], [str(j) for j in range(won.shape[1])])
    shares = sample.table()
    if np.isnan(shares).any():
        i, j = np.argwhere(np.isnan(shares))[0]
        raise GameError(f"{rows[i]!r} never met {columns[j]!r}, expected a comparison for every pair: leave one out")
    found = game(shares, labels=(rows, columns), name=name)
    about = found.description
    described = dataclasses.replace(about, sample=sample, facts=(str(sample), *about.facts))
    return dataclasses.replace(found, description=described)


def as_counts(numbers: Numbers, names: Sequence[str] | None = None) -> Float[np.ndarray, "m n"]:
    """An [m, n] array of whole numbers of at least 0; where nothing is said (None or NaN) there are none.

    Raises:
        GameError: no matrix, not as many rows and columns as names, or another number; the message names the entry.
    """
    counts = as_matrix(numbers)
    if names is not None and counts.shape != (len(names), len(names)):
        raise GameError(f"expected {len(names)} rows and columns of counts, got an array of shape {counts.shape}")
    counts = np.where(np.isnan(counts), 0.0, counts)
    wrong = np.argwhere(~((counts >= 0) & (counts == np.rint(counts)) & np.isfinite(counts)))
    if len(wrong):
        i, j = wrong[0].tolist()
        raise GameError(f"expected counts, whole numbers of at least 0, got {counts[i, j]:g} {_place((i, j))}")
    return counts


def as_matrix(numbers: Numbers) -> Float[np.ndarray, "m n"]:
    """A [m, n] float64 array, None read as NaN.

    Raises:
        GameError: rows of different lengths, no entries, a masked entry, or an entry that is not a real number. A
            complex number, a date or a text of digits is none. The message names the first such entry.
    """
    _refuse_masked(numbers)
    try:
        if np.asarray(numbers).dtype.kind in NOT_REAL:
            numbers = _real_entries(numbers)
        matrix = np.array(numbers, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, GameError):
            raise
        refuse_traced(numbers)
        raise GameError("expected a matrix of numbers with rows of equal length, got something else") from None
    if matrix.ndim != 2 or matrix.size == 0:
        raise GameError(f"expected a non-empty matrix, got an array of shape {matrix.shape}")
    return matrix


def _refuse_masked(numbers: Numbers) -> None:
    hidden = np.argwhere(np.ma.getmaskarray(numbers)) if np.ma.isMaskedArray(numbers) else np.empty(0)
    if hidden.size:
        raise GameError(f"expected a number for every entry, but the one {_place(tuple(hidden[0].tolist()))} is masked")


def _real_entries(numbers: Numbers) -> np.ndarray:
    """The numbers of an array of other things, or the refusal of its first entry that is none."""
    entries = np.array(numbers, object)
    for at, entry in np.ndenumerate(entries):
        if entry is None:
            continue
        try:
            if isinstance(entry, str | bytes | complex | np.complexfloating) or np.asarray(numbers).dtype.kind in "Mm":
                raise TypeError
            entries[at] = float(entry)
        except (TypeError, ValueError, OverflowError):
            got = "an integer beyond 1.8e308" if isinstance(entry, int) else f"{entry!r:.40}"
            raise GameError(f"expected a matrix of numbers, got {got} {_place(at)}") from None
    return entries


def _place(index: tuple[int, ...]) -> str:
    return f"in row {index[0] + 1}, column {index[1] + 1}" if len(index) == 2 else f"at {index}"
