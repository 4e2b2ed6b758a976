"""Sample: the comparisons from which the payoffs of a game were estimated, and how to draw them again.

`Pairs` counts comparisons that do not depend on each other; `Ballots` holds rankings, in which all pairs of a ballot
belong together. Tables are in the units of the game: the share of comparisons that the row option wins, ties counted
half, or the margin, 2 share - 1.

A sample is drawn again (the bootstrap, Efron 1979) from what was seen and one more comparison, or ballot, that was not:
it prefers either option with the same chance. Drawn from what was seen alone, ten wins of ten would always be ten wins,
and intervals too narrow; so they hold in 94 to 98 % of cases where 95 % are meant, down to a few comparisons a pair
(`benchmarks/claims/bootstrap_coverage.py`).

Letters: m row options and n column options; K different ballots; T tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CELLS = 4_000_000  # numbers of an array that is worked on at a time
UNSEEN = np.array([0.5, 0.5, 0.0])  # wins, losses and ties of the comparison that was not seen


@dataclass(frozen=True)
class Pairs:
    """Counts of comparisons, independent of each other.

    Attributes:
        wins, losses, ties: [m, n] how often the row option was preferred, the column option, neither.
        symmetric: rows and columns are the same options, so that each pair stands in two cells; `losses` is `wins.T`.
        margins: tables are of margins, not of shares.
    """

    wins: Float[np.ndarray, "m n"]
    losses: Float[np.ndarray, "m n"]
    ties: Float[np.ndarray, "m n"]
    symmetric: bool = True
    margins: bool = False

    @property
    def size(self) -> int:
        """How many comparisons there were."""
        compared = self.wins + self.losses + self.ties
        return round(float(np.triu(compared, 1).sum() if self.symmetric else compared.sum()))

    def __str__(self) -> str:
        return f"{self.size:,} comparison{'s' * (self.size != 1)}"

    def table(self) -> Float[np.ndarray, "m n"]:
        """The table that was measured; NaN for pairs that were never compared, 1/2 (or 0) for an option and itself."""
        return self._table(self.wins - self.losses, self.wins + self.losses + self.ties)

    def draw(self, rng: np.random.Generator, tables: int) -> Float[np.ndarray, "T m n"]:
        """Tables of as many comparisons of each pair, drawn again; pairs that were never compared are ties."""
        cells = np.triu(np.ones(self.wins.shape, bool), 1) if self.symmetric else np.ones(self.wins.shape, bool)
        outcomes = np.stack([self.wins[cells], self.losses[cells], self.ties[cells]], axis=-1)
        compared = np.rint(outcomes.sum(axis=-1)).astype(np.int64)
        chances = outcomes + UNSEEN
        drawn = rng.multinomial(compared, chances / chances.sum(axis=-1, keepdims=True), (tables, len(compared)))
        difference = np.zeros((tables, *self.wins.shape))
        difference[:, cells] = drawn[..., 0] - drawn[..., 1]
        total = np.zeros(self.wins.shape)
        total[cells] = compared
        if self.symmetric:
            difference, total = difference - difference.swapaxes(1, 2), total + total.T
        return self._table(difference, np.where(total > 0, total, 1.0))

    def keep(self, members: list[int]) -> "Pairs":
        """The sample of some of the options, of a symmetric table."""
        at = np.ix_(members, members)
        return Pairs(self.wins[at], self.losses[at], self.ties[at], self.symmetric, self.margins)

    def _table(self, difference: np.ndarray, compared: np.ndarray) -> np.ndarray:
        known = compared > 0
        margin = np.where(known, difference / np.where(known, compared, 1.0), np.nan)
        if self.symmetric:
            diagonal = np.arange(margin.shape[-1])
            margin[..., diagonal, diagonal] = 0.0
        return margin if self.margins else 0.5 + margin / 2


@dataclass(frozen=True)
class Ballots:
    """Rankings, each by some number of voters; tables are of shares.

    Attributes:
        ranks: [K, n] rank of each option on each ballot: 1 is the best, equal numbers are ties; 0 if the ballot does
            not rank it, and then says nothing of the pairs that it is in.
        voters: [K] how many gave each ballot.
    """

    ranks: Int[np.ndarray, "K n"]
    voters: Int[np.ndarray, " K"]

    @property
    def size(self) -> int:
        """How many ballots there were."""
        return int(self.voters.sum())

    def __str__(self) -> str:
        return f"{self.size:,} ballot{'s' * (self.size != 1)}"

    def table(self) -> Float[np.ndarray, "n n"]:
        """The share of voters who prefer the row option among those who rank both; NaN where nobody does."""
        difference, compared = self._counted(self.voters[None].astype(np.float64))
        return _shares(difference, compared)[0]

    def draw(self, rng: np.random.Generator, tables: int) -> Float[np.ndarray, "T n n"]:
        """Tables of as many voters, drawn again; pairs that none of them compares are ties."""
        chances = np.append(self.voters, 1.0) / (self.size + 1)
        step = max(1, CELLS // len(chances))
        once = ~np.isnan(self.table()) & ~np.eye(self.ranks.shape[1], dtype=bool)  # what an unseen ballot may speak of
        found = []
        for first in range(0, tables, step):
            times = rng.multinomial(self.size, chances, min(step, tables - first))
            difference, compared = self._counted(times[:, :-1].astype(np.float64))
            unseen = times[:, -1, None, None] * once
            upper = np.triu(2.0 * rng.binomial(unseen, 0.5) - unseen, 1)
            difference += upper - upper.swapaxes(1, 2)
            found.append(np.nan_to_num(_shares(difference, compared + unseen), nan=0.5))
        return np.concatenate(found)

    def keep(self, members: list[int]) -> "Ballots":
        """The same ballots with some of the options only."""
        return Ballots(self.ranks[:, members], self.voters)

    def _counted(self, times: Float[np.ndarray, "T K"]) -> tuple[np.ndarray, np.ndarray]:
        """Margins [T, n, n] in voters, and how many voters rank both, if each ballot was given so many times."""
        n = self.ranks.shape[1]
        difference, compared = np.zeros((len(times), n * n)), np.zeros((len(times), n * n))
        for part, ranks in self._parts():
            both = (ranks[:, :, None] > 0) & (ranks[:, None, :] > 0)
            prefers = np.sign(ranks[:, None, :] - ranks[:, :, None]) * both
            difference += times[:, part] @ prefers.reshape(len(ranks), -1).astype(np.float64)
            compared += times[:, part] @ both.reshape(len(ranks), -1).astype(np.float64)
        return difference.reshape(-1, n, n), compared.reshape(-1, n, n)

    def _parts(self) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, CELLS // self.ranks.shape[1] ** 2)
        for first in range(0, len(self.ranks), step):
            part = slice(first, first + step)
            yield part, self.ranks[part].astype(np.int64)


def _shares(difference: np.ndarray, compared: np.ndarray) -> np.ndarray:
    """Shares of margins in voters; NaN where nobody compared, 1/2 on the diagonal."""
    known = compared > 0
    shares = np.where(known, 0.5 + difference / (2 * np.where(known, compared, 1.0)), np.nan)
    diagonal = np.arange(shares.shape[-1])
    shares[..., diagonal, diagonal] = 0.5
    return shares


Sample = Pairs | Ballots
