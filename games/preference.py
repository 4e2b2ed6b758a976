"""Preference games: each player names an option, and the payoff is how often its option is preferred.

With P[i, j] the share of comparisons that i wins over j, the row player receives P - 1/2. Values are reported in the
units of P, so that every equilibrium has value 1/2. The game is symmetric; its equilibrium strategies are the maximal
lotteries or von Neumann winners (Fishburn 1984; Dudik et al. 2015). An option that is preferred to every
other, the Condorcet winner, is then the only equilibrium strategy.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int

from games.constant_sum import rounding_hint
from games.labels import told_apart, unique_labels
from games.matrix import Numbers, as_counts, as_matrix
from mmd.game.game import Game, GameError
from mmd.game.sample import Ballots, Pairs, Sample

SUM_TOLERANCE = 1e-9  # in P + P.T = 1: shares written with ten digits pass
MISSING = ("refuse", "half", "drop")
UNRANKED = ("missing", "last")


def game(
    preferences: Numbers,
    *,
    labels: Sequence[str] | None = None,
    name: str = "preference",
    sum_tolerance: float | None = None,
    missing: str = "refuse",
    counts: Numbers | None = None,
) -> Game:
    """The preference game of a matrix of win rates.

    Args:
        preferences: [n, n] shares between 0 and 1 with P + P.T = 1; the diagonal is 1/2 or missing (None or NaN).
        labels: names of the n options; repeated ones get a suffix, and a fact says so.
        name: the game's name.
        sum_tolerance: how far P + P.T may be from 1, for rounded shares; the game is that of (P - P.T + 1) / 2. The
            default is 1e-9.
        missing: what becomes of pairs that were never compared (None or NaN). "refuse" raises; "half" takes 1/2 for
            their share. "drop" leaves out the option with the most such pairs, of several the last one, until every
            pair that is left was compared. The game's facts say so.
        counts: [n, n] how many comparisons each share is of, at least 1 and the same for j and i, for `mmd.bootstrap`.

    Raises:
        GameError: not such a matrix; the message names the entry, or the two options that never met.
    """
    shares, names = _square(preferences, labels)
    diagonal = np.arange(len(names))
    shares[diagonal, diagonal] = np.where(np.isnan(shares.diagonal()), 0.5, shares.diagonal())
    sample = None if counts is None else _counted(shares, as_counts(counts, names), names)
    shares, names, kept, facts = _settled(shares, names, missing)
    if place := _first((shares < 0) | (shares > 1)):
        i, j = place
        raise GameError(f"expected shares between 0 and 1, got {shares[i, j]:g} {_entry(names, i, j)}")
    off = np.abs(shares + shares.T - 1)
    if place := _first(off > (SUM_TOLERANCE if sum_tolerance is None else sum_tolerance)):
        i, j = place
        sums = f"{shares[i, j]:.12g} + {shares[j, i]:.12g} {_entry(names, i, j)}"
        raise GameError(f"expected P + P.T = 1, got {sums}, off by {off[i, j]:.3g}{rounding_hint(off.max(), 1.0)}")
    found = _symmetric((shares - shares.T) / 2, names, name, offset=0.5)
    return measured(found, sample and sample.keep(kept), (*facts, *told_apart(labels or ())))


def from_counts(
    wins: Numbers,
    ties: Numbers | None = None,
    *,
    labels: Sequence[str] | None = None,
    name: str = "comparisons",
    missing: str = "refuse",
) -> Game:
    """The preference game of counted comparisons: shares of wins, a tie counted half for either side.

    Args:
        wins: [n, n] how often i was preferred to j, whole numbers; the diagonal is 0 or missing.
        ties: [n, n] how often neither of i and j was preferred, the same for j and i; none if None.
        labels: names of the n options; repeated ones get a suffix, and a fact says so.
        name: the game's name.
        missing: as in `game`, for pairs without any comparison.

    Raises:
        GameError: not such counts; the message names the entry, or the two options that never met.
    """
    names = _square(wins, labels)[1]
    won = as_counts(wins, names)
    drawn = np.zeros_like(won) if ties is None else as_counts(ties, names)
    for counts in (won, drawn):
        if counts.diagonal().any():
            raise GameError(f"expected no comparison of {names[int(counts.diagonal().argmax())]!r} with itself")
    if place := _first(drawn != drawn.T):
        i, j = place
        raise GameError(f"expected ties = ties.T, got {drawn[i, j]:g} and {drawn[j, i]:g} {_entry(names, i, j)}")
    return _sampled(Pairs(won, won.T, drawn), names, name, missing, told_apart(labels or ()))


def from_ballots(
    ranks: Int[np.ndarray, "K n"] | Sequence[Sequence[int]],
    voters: Int[np.ndarray, " K"] | Sequence[int],
    *,
    labels: Sequence[str] | None = None,
    name: str = "ballots",
    missing: str = "refuse",
    unranked: str = "missing",
) -> Game:
    """The preference game of ranked ballots: the share of voters who prefer i to j, a tie counted half.

    Args:
        ranks: [K, n] rank of each option on each ballot: 1 is the best, equal numbers are ties, 0 is not ranked.
        voters: [K] how many voters gave each ballot, at least 1.
        labels: names of the n options; repeated ones get a suffix, and a fact says so.
        name: the game's name.
        missing: as in `game`, for pairs that nobody ranks both.
        unranked: what a ballot says of an option that it does not rank. With "missing" it says nothing, so that a share
            is of the voters who rank both. With "last" all such options are tied behind the ranked ones.

    Raises:
        GameError: not such ballots.
    """
    places, given = np.asarray(ranks), np.asarray(voters)
    if places.ndim != 2 or given.shape != places.shape[:1] or not places.size:
        raise GameError(f"expected ranks [K, n] and voters [K], got shapes {places.shape} and {given.shape}")
    if places.dtype.kind not in "iu" or given.dtype.kind not in "iu" or places.min() < 0 or given.min() < 1:
        raise GameError("expected whole numbers: ranks of at least 0, and at least 1 voter for each ballot")
    if unranked not in UNRANKED:
        raise GameError(f"expected unranked to be {' or '.join(UNRANKED)}, got {unranked!r:.40}")
    if unranked == "last":
        places = np.where(places == 0, places.max() + 1, places)
    names = _square(np.zeros((places.shape[1],) * 2), labels)[1]
    return _sampled(Ballots(places, given), names, name, missing, told_apart(labels or ()))


def margins(payoffs: Numbers, *, labels: Sequence[str] | None = None, name: str = "margins") -> Game:
    """The symmetric game of an antisymmetric matrix, such as an election's majority margins.

    Args:
        payoffs: [n, n] finite numbers, `payoffs[i, j] = -payoffs[j, i]` to 1e-9 of the largest.
        labels: names of the n options; repeated ones get a suffix, and a fact says so.
        name: the game's name.

    Raises:
        GameError: not such a matrix; the message names the entry.
    """
    matrix, names = _square(payoffs, labels)
    if place := _first(~np.isfinite(matrix)):
        i, j = place
        raise GameError(f"expected finite numbers, got {matrix[i, j]} {_entry(names, i, j)}")
    if place := _first(np.abs(matrix + matrix.T) > SUM_TOLERANCE * np.abs(matrix).max()):
        i, j = place
        raise GameError(f"expected A = -A.T, got {matrix[i, j]:.12g} and {matrix[j, i]:.12g} {_entry(names, i, j)}")
    return measured(_symmetric((matrix - matrix.T) / 2, names, name, offset=0.0), None, told_apart(labels or ()))


def measured(game: Game, sample: Sample | None, facts: tuple[str, ...] = ()) -> Game:
    """The same game with the comparisons that its payoffs were estimated from, and with further facts."""
    about = game.description
    return replace(game, description=replace(about, sample=sample, facts=(*about.facts, *facts)))


def cycle() -> Game:
    """Three options, b over a and c over b by 0.9, a over c by 0.8: equilibrium (4, 3, 4) / 11."""
    shares = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
    return game(shares, labels=("a", "b", "c"), name="preference:cycle")


def rock_paper_scissors() -> Game:
    """Rock, paper, scissors: each option surely beats one other and loses to one; equilibrium (1, 1, 1) / 3."""
    shares = [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]]
    return game(shares, labels=("rock", "paper", "scissors"), name="preference:rock_paper_scissors")


def _square(numbers: Numbers, labels: Sequence[str] | None) -> tuple[Float[np.ndarray, "n n"], tuple[str, ...]]:
    matrix = as_matrix(numbers)
    n = len(matrix)
    if matrix.shape != (n, n):
        raise GameError(f"expected a square matrix, got {matrix.shape[0]} rows and {matrix.shape[1]} columns")
    names = unique_labels(range(n) if labels is None else labels)
    if len(names) != n:
        raise GameError(f"expected {n} labels, got {len(names)}")
    return matrix, names


def _counted(shares: Float[np.ndarray, "n n"], counts: Float[np.ndarray, "n n"], names: tuple[str, ...]) -> Pairs:
    """The sample of shares of so many comparisons each."""
    known = ~np.isnan(shares) & ~np.eye(len(shares), dtype=bool)
    if place := _first(known & ~((counts > 0) & (counts == counts.T))):
        i, j = place
        got = f"got {counts[i, j]:g} and {counts[j, i]:g} {_entry(names, i, j)}"
        raise GameError(f"expected counts = counts.T, at least 1 where a share is known, {got}")
    wins = np.where(known, counts * np.nan_to_num(shares), 0.0)
    return Pairs(wins, wins.T, np.zeros_like(wins))


def _sampled(sample: Pairs | Ballots, names: tuple[str, ...], name: str, missing: str, facts: tuple[str, ...]) -> Game:
    """The game of the table that a sample of shares has."""
    shares, names, kept, settled = _settled(sample.table(), names, missing)
    sample = sample.keep(kept)
    found = _symmetric((shares - shares.T) / 2, names, name, offset=0.5)
    return measured(found, sample, (*settled, str(sample), *facts))


def _settled(
    shares: Float[np.ndarray, "n n"], names: tuple[str, ...], missing: str
) -> tuple[Float[np.ndarray, "k k"], tuple[str, ...], list[int], tuple[str, ...]]:
    """What is left when pairs that were never compared are dealt with: shares, names, which options, and facts."""
    if missing not in MISSING:
        raise GameError(f"expected missing to be {', '.join(MISSING[:-1])} or {MISSING[-1]}, got {missing!r:.40}")
    unknown, kept = np.isnan(shares) | np.isnan(shares.T), list(range(len(names)))
    if not (place := _first(unknown)):
        return shares, names, kept, ()
    i, j = place
    if missing == "refuse":
        what = (
            "say missing=half (1/2) or missing=drop (fewer options), on the command line --missing half, "
            "behind a file's name #missing=half, or leave one of them out"
        )
        raise GameError(f"{names[i]!r} and {names[j]!r} were never compared, expected a share for every pair: {what}")
    if missing == "half":
        pairs = np.count_nonzero(unknown) // 2
        pair = f"{names[i]!r} and {names[j]!r}"
        counted = (
            f"1 pair was never compared and counts as 1/2: {pair}"
            if pairs == 1
            else f"{pairs} pairs were never compared and count as 1/2: {pair} first"
        )
        return np.where(unknown, 0.5, shares), names, kept, (counted,)
    while unknown[np.ix_(kept, kept)].any():
        kept.remove(max(kept, key=lambda option: (np.count_nonzero(unknown[option, kept]), option)))
    if len(kept) < 2:
        raise GameError("no pair of options was compared, expected a share for at least one")
    dropped = ", ".join(repr(label) for option, label in enumerate(names) if option not in kept)
    fact = f"left out, since some pairs were never compared: {dropped}"
    return shares[np.ix_(kept, kept)], tuple(names[option] for option in kept), kept, (fact,)


def _symmetric(payoffs: Float[np.ndarray, "n n"], names: tuple[str, ...], name: str, *, offset: float) -> Game:
    beaten = np.count_nonzero(payoffs > 0, axis=1)
    winner = int(beaten.argmax())
    fact = "no Condorcet winner"
    if beaten[winner] == len(names) - 1:
        fact = f"{names[winner]} beats every other: the Condorcet winner"
    return Game.from_matrix(payoffs, name=name, labels=(names, names), offset=offset, symmetric=True, facts=(fact,))


def _first(wrong: Bool[np.ndarray, "n n"]) -> tuple[int, int] | None:
    """The first marked entry, None if there is none."""
    at = np.argwhere(wrong)
    return (int(at[0, 0]), int(at[0, 1])) if len(at) else None


def _entry(names: tuple[str, ...], i: int, j: int) -> str:
    return f"for {names[i]!r} over {names[j]!r} (row {i + 1}, column {j + 1})"
