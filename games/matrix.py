"""Matrix games: an array of payoffs to the row player."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from games.labels import unique_labels
from mmd.game import Game, GameError, refuse_traced

Numbers = np.ndarray | Sequence[Sequence[float | int | None]]


def game(payoffs: Numbers, *, labels: tuple[Sequence[str], Sequence[str]] | None = None, name: str = "matrix") -> Game:
    """The zero-sum game in which the row player receives `payoffs[i, j]` from the column player.

    Args:
        payoffs: [m, n] finite numbers.
        labels: names of the m rows and the n columns; repeated ones get a suffix.
        name: the game's name.

    Raises:
        GameError: not a finite, non-empty matrix, or labels that do not fit it.
    """
    if labels is not None:
        labels = (unique_labels(labels[0]), unique_labels(labels[1]))
    return Game.from_matrix(as_matrix(payoffs), name=name, labels=labels)


def as_matrix(numbers: Numbers) -> Float[np.ndarray, "m n"]:
    """A [m, n] float64 array, None read as NaN.

    Raises:
        GameError: rows of different lengths, no entries, or entries that are not numbers.
    """
    try:
        matrix = np.array(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        refuse_traced(numbers)
        raise GameError("expected a matrix of numbers with rows of equal length, got something else") from None
    if matrix.ndim != 2 or matrix.size == 0:
        raise GameError(f"expected a non-empty matrix, got an array of shape {matrix.shape}")
    return matrix
