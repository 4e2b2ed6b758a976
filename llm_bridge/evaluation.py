"""Models against each other: win rates under a judge with intervals, lengths, and the Nash lottery of the table.

Each pair of models is compared on every prompt, answer by answer. A prompt's preferences are averaged first and prompts
are the cases of the interval, because answers to one prompt are not independent. The table P of win rates is a
preference game: `mmd.solve` finds its von Neumann winner (Dudik et al. 2015), the mixture of models that no model
beats, with a certificate. A single model may be that mixture; in a cycle none is.

Judges like length, so lengths stand beside the win rates, and so do the win rates among pairs of similar length. What
counts as similar can be chosen, see `matched`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

import mmd
from llm_bridge.architecture import BridgeError
from llm_bridge.intervals import clustered, wilson
from llm_bridge.judges import Judge, ask

SIMILAR = 1.25  # the longer of two answers is at most so many times as long
Alike = Callable[[str, str], bool]
TABLES = ("wins", "low", "high", "error", "similar", "similar_frac", "similar_error")


@dataclass(frozen=True)
class Tournament:
    """How models do against each other.

    Attributes:
        names: of the n models.
        wins: [n, n] how often the row's answers are preferred to the column's; 1/2 on the diagonal.
        low, high: [n, n] its 95 % interval, which bounds the variance from above.
        error: [n, n] its standard error, as the prompts' own win rates show it.
        similar: [n, n] how often among pairs of similar length; NaN where there are none.
        similar_frac: [n, n] the share of such pairs.
        similar_error: [n, n] the standard error, over prompts.
        lengths: characters of each model's answers: mean, and 10 %, 50 % and 90 % quantiles.
        failed_frac, order_flip_frac: of the judge.
        lottery: probability of each model in the Nash equilibrium.
        exploitability: of it, as certified.
    """

    names: tuple[str, ...]
    wins: Float[np.ndarray, "n n"]
    low: Float[np.ndarray, "n n"]
    high: Float[np.ndarray, "n n"]
    error: Float[np.ndarray, "n n"]
    similar: Float[np.ndarray, "n n"]
    similar_frac: Float[np.ndarray, "n n"]
    similar_error: Float[np.ndarray, "n n"]
    lengths: Mapping[str, Mapping[str, float]]
    failed_frac: float
    order_flip_frac: float
    lottery: Mapping[str, float]
    exploitability: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not a number is None."""
        tables = {name: getattr(self, name) for name in TABLES}
        plain = {name: [[None if x != x else x for x in row] for row in t.tolist()] for name, t in tables.items()}
        rest = ("names", "lengths", "failed_frac", "order_flip_frac", "lottery", "exploitability")
        return {"schema_version": 1, **plain, **{name: getattr(self, name) for name in rest}}

    def lines(self) -> list[str]:
        """A table for people to read."""
        width = max(map(len, self.names))
        cells = [
            [
                f"{100 * w:5.1f} [{100 * lo:4.1f}, {100 * hi:5.1f}]" if i != j else "--".center(20)
                for j, (w, lo, hi) in enumerate(zip(*(t[i] for t in (self.wins, self.low, self.high)), strict=True))
            ]
            for i in range(len(self.names))
        ]
        lines = [" " * width + "  " + "  ".join(name[:20].ljust(20) for name in self.names)]
        lines += [f"{name.ljust(width)}  {'  '.join(row)}" for name, row in zip(self.names, cells, strict=True)]
        lines += ["", "win rate of the row's answers in %, [95 % interval over prompts]"]
        for name in self.names:
            spread = self.lengths[name]
            lines.append(
                f"{name.ljust(width)}  Nash probability {self.lottery[name]:.3f}, answers of {spread['mean']:.0f} "
                f"characters (10 % to 90 %: {spread['p10']:.0f} to {spread['p90']:.0f})"
            )
        lines.append(
            f"exploitability of the lottery {self.exploitability:.1e}, judge: {self.failed_frac:.1%} failed, "
            f"{self.order_flip_frac:.1%} flipped with the order"
        )
        return lines


def similar_length(a: str, b: str) -> bool:
    """Whether the longer of two answers has at most 1.25 times as many characters."""
    return max(len(a), len(b)) <= SIMILAR * min(len(a), len(b))


def matched(length: Callable[[str], int], *, relative: float = 0.1, absolute: int = 3) -> Alike:
    """Whether two answers are equally long but for a tenth of the longer one, or for three units.

    Args:
        length: of an answer, such as its number of tokens; asked once for each answer.
        relative: share of the longer one that the shorter one may lack.
        absolute: units that it may lack in any case.
    """
    known = cache(length)

    def alike(a: str, b: str) -> bool:
        shorter, longer = sorted((known(a), known(b)))
        return longer - shorter <= max(absolute, relative * longer)

    return alike


def tournament(
    judge: Judge,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[Sequence[str]]],
    *,
    alike: Alike = similar_length,
) -> Tournament:
    """Compare models.

    Args:
        judge: see `llm_bridge.judges`; asked in both orders unless it is symmetric.
        prompts: as the judge reads them.
        answers: of each model, of each prompt, at least one; all models have as many.
        alike: which pairs of answers are of similar length.

    Raises:
        BridgeError: fewer than two models, numbers of answers differ, or all comparisons of a pair failed.
    """
    names = tuple(answers)
    counts = {(len(given), len(samples)) for given in answers.values() for samples in given}
    if len(names) < 2 or len(counts) != 1 or {n for n, _ in counts} != {len(prompts)}:
        raise BridgeError("expected at least two models with equally many answers to every prompt")
    (_, n_samples) = counts.pop()
    places = [(i, j) for i in range(len(names)) for j in range(i)]
    first, second = (
        [text for pair in places for given in answers[names[pair[side]]] for text in given] for side in (0, 1)
    )
    shown = [prompt for _ in places for prompt in prompts for _ in range(n_samples)]
    verdicts = ask(judge, shown, first, second)
    by_prompt = verdicts.preference.reshape(len(places), len(prompts), n_samples)
    close = np.array([alike(a, b) for a, b in zip(first, second, strict=True)]).reshape(by_prompt.shape)
    tables = {name: np.full((len(names),) * 2, np.nan) for name in TABLES}
    for (i, j), found, similar in zip(places, by_prompt, close, strict=True):
        _enter(tables, i, j, found, similar)
    np.fill_diagonal(tables["wins"], 0.5)
    if np.isnan(tables["wins"]).any():
        i, j = np.argwhere(np.isnan(tables["wins"]))[0]
        raise BridgeError(f"every comparison of {names[i]} and {names[j]} has failed, so there is no win rate")
    lottery, exploitability = nash(tables["wins"], names)
    return Tournament(
        names=names,
        **tables,
        lengths={name: _lengths(given) for name, given in answers.items()},
        failed_frac=float(np.mean(verdicts.failed)),
        order_flip_frac=float(np.mean(verdicts.flipped)),
        lottery=lottery,
        exploitability=exploitability,
    )


def nash(wins: Float[np.ndarray, "n n"], names: Sequence[str]) -> tuple[dict[str, float], float]:
    """The Nash lottery of a table of win rates and its certified exploitability."""
    labels = (tuple(names), tuple(names))
    game = mmd.Game.from_matrix((wins - wins.T) / 2, name="win rates", labels=labels, offset=0.5, symmetric=True)
    solution = mmd.solve(game)
    probabilities = np.asarray(solution.policy.probabilities[0])[-len(names) :]
    return dict(zip(names, probabilities.tolist(), strict=True)), float(solution.exploitability)


def _enter(tables: Mapping[str, np.ndarray], i: int, j: int, found: np.ndarray, similar: np.ndarray) -> None:
    """Fill in the entries of two models from their preferences [prompts, samples]."""
    heard = ~np.isnan(found)
    answered = heard.any(axis=1)
    if not answered.any():
        return
    means = [float(row[ok].mean()) for row, ok in zip(found[answered], heard[answered], strict=True)]
    share, error = clustered(means, [1.0] * len(means))
    low, high = wilson(share, len(means))
    counted = heard & similar
    sums = np.where(counted, found, 0).sum(axis=1).tolist()
    close, close_error = clustered(sums, counted.sum(axis=1).tolist())
    for name, value in (("wins", share), ("low", low), ("high", high), ("similar", close)):
        tables[name][i, j] = value
    for name, value in (("wins", share), ("low", high), ("high", low), ("similar", close)):
        tables[name][j, i] = 1 - value
    fraction = float(counted.sum() / heard.sum())
    for name, value in (("error", error), ("similar_error", close_error), ("similar_frac", fraction)):
        tables[name][i, j] = tables[name][j, i] = value


def _lengths(given: Sequence[Sequence[str]]) -> dict[str, float]:
    found = np.array([len(text) for samples in given for text in samples])
    quantiles = {f"p{q}": float(np.percentile(found, q)) for q in (10, 50, 90)}
    return {"mean": float(found.mean()), **quantiles}
