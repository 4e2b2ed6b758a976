"""Token trees: both players write a sequence of tokens, unseen by the other, and a preference decides.

With V tokens and length L there are V^L complete sequences y, numbered by their digits in base V, the first token
first. P[y, y'] is how often y is preferred to y', P + P.T = 1, and the row player receives

    P[y, y'] - 1/2    (values are reported in the units of P, so that every equilibrium has value 1/2).

Each player's treeplex is the tree of prefixes, an infoset for each of the (V^L - 1) / (V - 1) incomplete ones. It is
the preference game of the complete sequences (`games.preference`) in another form: a policy is a language model, its
plan at the leaves is a distribution over complete sequences, and those of equilibria are the equilibria of P.

A token is named by its number, an infoset by its prefix, "<s>" first: "<s> 2 0".

Letters: V tokens; L their number in a sequence; Y = V^L complete sequences.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from games import preference
from games.labels import LazyLabels
from games.matrix import Numbers, as_matrix
from games.memory import check_memory
from mmd.game.game import Game, GameError, PlayerLabels
from mmd.game.payoff import Entries
from mmd.game.treeplex import Treeplex

MAX_VOCABULARY = 100_000
MAX_LENGTH = 20
START = "<s>"


def game(vocabulary: int = 3, length: int = 2, seed: int = 1) -> Game:
    """Sequences of `length` tokens out of `vocabulary`, compared by a random preference.

    P[y, y'] = sigmoid(z), z drawn from the standard normal distribution for each pair y < y'. Such preferences run in
    cycles: with probability 1 - Y / 2^(Y - 1) no sequence is preferred to every other. With the default seed none is.

    Raises:
        GameError: fewer than 2 or more than 100,000 tokens; a length below 1 or above 20; a negative seed; too large
            for this machine.
    """
    if seed < 0:
        raise GameError(f"token_tree: expected a seed of at least 0, got {seed}")
    name = f"token_tree:vocabulary={vocabulary},length={length},seed={seed}"
    n = _count_sequences(vocabulary, length, name)
    above = np.triu(np.random.default_rng(seed).standard_normal((n, n)), 1)
    return from_preference(1 / (1 + np.exp(above.T - above)), vocabulary, length, name=name)


def from_preference(preferences: Numbers, vocabulary: int, length: int, *, name: str = "token_tree") -> Game:
    """The token tree of a preference between complete sequences.

    Args:
        preferences: [Y, Y] shares between 0 and 1 with P + P.T = 1, as for `games.preference.game`.
        vocabulary: V.
        length: L.
        name: the game's name.

    Raises:
        GameError: fewer than 2 or more than 100,000 tokens; a length below 1 or above 20; not such a matrix, or one of
            another size; too large for this machine.
    """
    n = _count_sequences(vocabulary, length, name)
    shares = as_matrix(preferences)
    if shares.shape != (n, n):
        size = " x ".join(map(str, shares.shape))
        raise GameError(f"{name}: expected preferences between {vocabulary}^{length} = {n} sequences, got {size}")
    n_prefixes = (n - 1) // (vocabulary - 1)
    prefix = partial(_prefix, vocabulary)
    flat = preference.game(shares, labels=[prefix(n_prefixes + y) for y in range(n)])
    # Prefixes are numbered by length, then by their digits, so prefix j followed by token v is number j V + v + 1. That
    # is also the number of the sequence which writes v after j, and it is the treeplex order.
    treeplex, _ = Treeplex.build(np.arange(n_prefixes), np.full(n_prefixes, vocabulary))
    entries = flat.payoff.entries()  # in which complete sequence y is y + 1
    entries = entries._replace(rows=entries.rows + n_prefixes - 1, columns=entries.columns + n_prefixes - 1)
    tokens = tuple(map(str, range(vocabulary)))
    labels = PlayerLabels(LazyLabels(n_prefixes, prefix), LazyLabels(n_prefixes, partial(_same, tokens)))
    description = replace(
        flat.description, name=name, labels=(labels, labels), symmetric=False, plays=partial(_plays, n_prefixes, n)
    )
    return Game.from_entries((treeplex, treeplex), entries, description)


def _count_sequences(vocabulary: int, length: int, name: str) -> int:
    """Y, if the matrix fits into memory."""
    if not 2 <= vocabulary <= MAX_VOCABULARY:
        raise GameError(f"token_tree: expected 2 to {MAX_VOCABULARY:,} tokens, got {vocabulary}")
    if not 1 <= length <= MAX_LENGTH:
        raise GameError(f"token_tree: expected sequences of 1 to {MAX_LENGTH} tokens, got {length}")
    n = vocabulary**length
    check_memory(name, n**2)
    return n


def _plays(n_prefixes: int, n: int) -> Entries:
    """Every pair of complete sequences is one play."""
    rows, columns = n_prefixes + np.indices((n, n)).reshape(2, -1)
    return Entries(rows, columns, np.ones(n * n))


def _prefix(vocabulary: int, number: int) -> str:
    """The name of a sequence of tokens, complete or not, by its number among all."""
    tokens: list[str] = []
    while number:
        number, token = divmod(number - 1, vocabulary)
        tokens.insert(0, str(token))
    return " ".join([START, *tokens])


def _same(tokens: tuple[str, ...], _: int) -> tuple[str, ...]:
    """The actions, the same at every infoset."""
    return tokens
