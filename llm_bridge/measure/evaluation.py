"""Models against each other: win rates under a judge with intervals, lengths, and the Nash lottery of the table.

Each pair of models is compared on every prompt, every answer of one with every answer of the other: the mean over
pairs of independent answers is the unbiased estimate of the prompt's win rate with the least variance. Answers that
share random numbers would bias it where preferences run in cycles. Prompts are the cases of the interval, because
answers to one prompt are not independent (`llm_bridge.measure.intervals`). A prompt that stands in several rows is one
case, with the pairs of all of them: rows that repeat it tell nothing of other prompts. The table of win rates has a
Nash lottery, the mixture of models that no model beats, with its uncertainty (`llm_bridge.measure.lottery`). A single
model may be that mixture; in a cycle none is.

Judges like length, so lengths stand beside the win rates, and so do the win rates among pairs of similar length. What
counts as similar can be chosen, see `matched`.
"""

import itertools
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from llm_bridge.judges import Judge, ask
from llm_bridge.measure.intervals import cases_of, clustered, pooled, redrawn, wilson
from llm_bridge.measure.lottery import Lottery, lottery_of
from llm_bridge.model.architecture import BridgeError
from mmd.host.drawing import COLORS, empty_figure, save_figure
from mmd.host.notebook import MOST_ROWS, data_frame, html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 6  # models in a repr
SIMILAR = 1.25  # the longer of two answers is at most so many times as long
Alike = Callable[[str, str], bool]
TABLES = ("wins", "low", "high", "wilson_low", "wilson_high", "error", "similar", "similar_frac", "similar_error")
NUMBERS = ("names", "lengths", "failed_frac", "order_flip_frac", *Lottery._fields)


@dataclass(frozen=True, repr=False)
class Tournament:
    """How models do against each other.

    Attributes:
        names: of the n models.
        wins: [n, n] how often the row's answers are preferred to the column's; 1/2 on the diagonal.
        low, high: [n, n] its 95 % interval if the prompts were drawn again (`llm_bridge.measure.intervals.redrawn`).
        wilson_low, wilson_high: [n, n] Wilson's over prompts, which bounds the variance from above.
        error: [n, n] its standard error, as the prompts' own win rates show it.
        similar: [n, n] how often among pairs of similar length; NaN where there are none.
        similar_frac: [n, n] the share of such pairs.
        similar_error: [n, n] the standard error, over prompts.
        lengths: characters of each model's answers: mean, and 10 %, 50 % and 90 % quantiles.
        failed_frac, order_flip_frac: of the judge.
        lottery: probability of each model in the Nash equilibrium of `wins`.
        exploitability: of the lottery in `wins`, as certified; in win rate.
        converged: whether that is at most the default tolerance of `mmd.solve`, as `mmd.Solution.converged` is. It is
            about the measured table alone: what other prompts would have given is in the intervals.
        lottery_low, lottery_high: the 95 % interval of each probability.
        exploitability_low, exploitability_high: the 95 % interval of how much more than half of its comparisons with
            the lottery the best model wins.
        exploits: of models that adversaries were trained against, the lower bound of the model's own exploitability, as
            `llm_bridge.measure.exploit.Exploitability.as_dict` has it.
        preferences: of two models, [P, s, s] how sure the judge is that an answer of the first is better than one of
            the second, on each of P prompts; NaN where it said nothing.
    """

    names: tuple[str, ...]
    wins: Float[np.ndarray, "n n"]
    low: Float[np.ndarray, "n n"]
    high: Float[np.ndarray, "n n"]
    wilson_low: Float[np.ndarray, "n n"]
    wilson_high: Float[np.ndarray, "n n"]
    error: Float[np.ndarray, "n n"]
    similar: Float[np.ndarray, "n n"]
    similar_frac: Float[np.ndarray, "n n"]
    similar_error: Float[np.ndarray, "n n"]
    lengths: Mapping[str, Mapping[str, float]]
    failed_frac: float
    order_flip_frac: float
    lottery: Mapping[str, float]
    exploitability: float
    converged: bool
    lottery_low: Mapping[str, float]
    lottery_high: Mapping[str, float]
    exploitability_low: float
    exploitability_high: float
    exploits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preferences: Mapping[tuple[str, str], Float[np.ndarray, "P s s"]] = field(default_factory=dict)

    def __repr__(self) -> str:
        most = sorted(self.lottery.items(), key=lambda item: -item[1])[:SHOWN]
        shown = ", ".join(f"{name} {p:.3f}" for name, p in most)
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        return f"Tournament({len(self.names)} models, Nash probabilities {shown}{more})"

    @property
    def apart(self) -> Bool[np.ndarray, "n n"]:
        """Which models the data tell apart: the interval of their win rate does not hold 1/2."""
        return (self.low > 0.5) | (self.high < 0.5)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not a number is None."""
        tables = {name: getattr(self, name) for name in TABLES}
        plain = {name: [[None if x != x else x for x in row] for row in t.tolist()] for name, t in tables.items()}
        return {"schema_version": 1, **plain, **{name: getattr(self, name) for name in NUMBERS}} | (
            {"exploits": dict(self.exploits)} if self.exploits else {}
        )

    def _repr_html_(self) -> str:
        """For notebooks: the win rates in % with their intervals, and the lottery with its own."""
        bounds, n = _bounds(self.low, self.high), min(len(self.names), MOST_ROWS)
        rows = (
            (name, *("" if i == j else f"{100 * self.wins[i, j]:.1f} {bounds[i][j]}" for j in range(n)))
            for i, name in enumerate(self.names)
        )
        caption = "win rate of the row's answers in %" + (f", of {n} columns" if n < len(self.names) else "")
        wins = html_table(caption, rows, ("", *self.names[:n]), len(self.names))
        low, high = self.lottery_low, self.lottery_high
        lottery = ((n, float(p), f"[{low[n]:.3f}, {high[n]:.3f}]") for n, p in self.lottery.items())
        return wins + html_table("Nash lottery", lottery, ("", "probability", "interval"), len(self.names))

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each model and each other one that it met.

        Its columns are model, opponent, and the tables of this class by their names.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        first, second = np.nonzero(~np.eye(len(self.names), dtype=bool))
        sides = {side: [self.names[i] for i in of] for side, of in (("model", first), ("opponent", second))}
        return data_frame(sides | {name: getattr(self, name)[first, second] for name in TABLES})

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Win rates as a table of colours, and the lottery with its intervals.

        Args:
            path: where to write the figure (.png at 200 dpi, .svg, .pdf); not written if None.

        Raises:
            OutputError: matplotlib cannot be imported, or the figure cannot be written.
        """
        n = len(self.names)
        figure = empty_figure(figsize=(6.0 + 0.8 * n, 2.0 + 0.4 * n), layout="constrained")
        table, lottery = figure.subplots(1, 2)
        self._draw_wins(table)
        values = np.array([(self.lottery[x], self.lottery_low[x], self.lottery_high[x]) for x in self.names])
        lottery.barh(range(n), values[:, 0], color=COLORS[0], height=0.6)
        lottery.hlines(range(n), values[:, 1], values[:, 2], color=COLORS[-1], linewidth=1.2)
        lottery.set(xlim=(0, 1), ylim=(n - 0.5, -0.5), xlabel="Nash probability, 95 % interval")
        lottery.set_yticks(range(n), labels=self.names, parse_math=False)
        if path is not None:
            save_figure(figure, path, dpi=200)
        return figure

    def _draw_wins(self, axes: "Axes") -> None:
        n = len(self.names)
        axes.imshow(self.wins, cmap="RdBu", vmin=0, vmax=1)
        for i, j in itertools.product(range(n), range(n)):
            if i != j:
                axes.annotate(f"{100 * self.wins[i, j]:.0f}", (j, i), ha="center", va="center")
        axes.set_xticks(range(n), labels=self.names, rotation=90, parse_math=False)
        axes.set_yticks(range(n), labels=self.names, parse_math=False)
        axes.set_title("win rate of the row's answers in %", fontsize="medium")

    def lines(self) -> list[str]:
        """A table for people to read."""
        bounds, wilson = _bounds(self.low, self.high), _bounds(self.wilson_low, self.wilson_high)
        cells = [
            [f"{100 * win:5.1f} {bound}" for win, bound in zip(*rows, strict=True)]
            for rows in zip(self.wins, bounds, strict=True)
        ]
        return [
            *self._table(cells),
            "",
            "win rate of the row's answers in %, all pairs of answers, [95 % interval if the prompts were drawn again]",
            "",
            *self._table(wilson),
            "",
            "Wilson's 95 % interval over prompts, which bounds their variance from above",
            "",
            *self._lottery_lines(),
            *self._exploit_lines(),
            f"judge: {self.failed_frac:.1%} failed, {self.order_flip_frac:.1%} flipped with the order",
        ]

    def _table(self, cells: Sequence[Sequence[str]]) -> list[str]:
        """Named rows and columns, nothing on the diagonal."""
        width, wide = max(map(len, self.names)), max(len(cell) for row in cells for cell in row)
        header = "  ".join(name[:wide].ljust(wide) for name in self.names)
        rows = [
            "  ".join("--".center(wide) if i == j else cell.ljust(wide) for j, cell in enumerate(row))
            for i, row in enumerate(cells)
        ]
        return [f"{name.ljust(width)}  {row}" for name, row in zip(("", *self.names), (header, *rows), strict=True)]

    def _lottery_lines(self) -> list[str]:
        """Nash probabilities and exploitability; without the measured ones where these mean nothing."""
        any_apart, width, lines = bool(self.apart.any()), max(map(len, self.names)), []
        for name in self.names:
            spread, low, high = self.lengths[name], self.lottery_low[name], self.lottery_high[name]
            measured = f"{self.lottery[name]:.3f} [{low:.3f}, {high:.3f}]"
            lines.append(
                f"{name.ljust(width)}  Nash probability {measured if any_apart else f'[{low:.3f}, {high:.3f}]'}, "
                f"answers of {spread['mean']:.0f} characters (10 % to 90 %: {spread['p10']:.0f} to {spread['p90']:.0f})"
            )
        bounds = f"[{self.exploitability_low:.3f}, {self.exploitability_high:.3f}]"
        certified = f", in the measured table {self.exploitability:.1e}" if any_apart else ""
        lines.append(f"exploitability of the lottery {bounds} if the prompts were drawn again{certified}")
        return [*lines, *self._doubts()]

    def _exploit_lines(self) -> list[str]:
        """How far each model is beaten by what was trained against it, if anything was."""
        lines, width = [], max(map(len, self.names))
        for name, one in self.exploits.items():
            bounds = f"[{one['exploitability_low']:.3f}, {one['exploitability_high']:.3f}]"
            bound = f"exploitability at least {one['exploitability']:.3f} {bounds}"
            lines.append(f"{name.ljust(width)}  {bound}, by the adversary '{one['adversary']}'")
        return [*lines, "these are lower bounds: better adversaries may have been missed"] if lines else []

    def _doubts(self) -> list[str]:
        """Which models the data do not tell apart, in words."""
        if not self.apart.any():
            return ["these prompts do not tell the models apart: every interval holds 50 %, so the lottery is open"]
        pairs = [(i, j) for i in range(len(self.names)) for j in range(i) if not self.apart[i, j]]
        if not pairs:
            return []
        listed = "; ".join(f"{self.names[j]} and {self.names[i]}" for i, j in pairs)
        return [f"not told apart, because the interval holds 50 %: {listed}"]


def _bounds(low: Float[np.ndarray, "n n"], high: Float[np.ndarray, "n n"]) -> list[list[str]]:
    """Intervals in percent."""
    pairs = np.stack([low, high], axis=-1)
    return [[f"[{100 * least:4.1f}, {100 * most:5.1f}]" for least, most in row] for row in pairs]


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
    cases: Sequence[Hashable] | None = None,
) -> Tournament:
    """Compare models: all pairs of answers to a prompt.

    Args:
        judge: see `llm_bridge.judges`; asked in both orders unless it is symmetric.
        prompts: as the judge reads them.
        answers: of each model, of each prompt, at least one; all models have as many, drawn independently.
        alike: which pairs of answers are of similar length.
        cases: what tells prompts apart, equal for those that are the same one; None for the prompts as shown.

    Raises:
        BridgeError: fewer than two models, numbers of answers differ, or all comparisons of a pair failed.
    """
    names = tuple(answers)
    counts = {(len(given), len(samples)) for given in answers.values() for samples in given}
    if len(names) < 2 or len(counts) != 1 or {n for n, _ in counts} != {len(prompts)}:
        raise BridgeError("expected at least two models with equally many answers to every prompt")
    (_, n_samples) = counts.pop()
    places = [(i, j) for i in range(len(names)) for j in range(i)]
    asked = [
        (prompt, a, b)
        for i, j in places
        for prompt, ours, theirs in zip(prompts, answers[names[i]], answers[names[j]], strict=True)
        for a in ours
        for b in theirs
    ]
    shown, first, second = map(list, zip(*asked, strict=True))
    verdicts = ask(judge, shown, first, second)
    found = verdicts.preference.reshape(len(places), len(prompts), n_samples**2)
    close = np.array([alike(a, b) for a, b in zip(first, second, strict=True)]).reshape(found.shape)
    case = cases_of(prompts if cases is None else cases)
    by_prompt = _means(found, case)
    tables: dict[str, Any] = {name: np.full((len(names),) * 2, np.nan) for name in TABLES}
    for (i, j), won, preferences, similar in zip(places, by_prompt, found, close, strict=True):
        if np.isnan(won).all():
            raise BridgeError(f"every comparison of {names[j]} and {names[i]} has failed, so there is no win rate")
        _enter(tables, i, j, _entries(won, preferences, similar, case))
    np.fill_diagonal(tables["wins"], 0.5)
    return Tournament(
        names=names,
        **tables,
        lengths={name: _lengths(given) for name, given in answers.items()},
        failed_frac=float(np.mean(verdicts.failed)),
        order_flip_frac=float(np.mean(verdicts.flipped)),
        **lottery_of(by_prompt, tables["wins"], names)._asdict(),
        preferences={
            (names[i], names[j]): said.reshape(-1, n_samples, n_samples)
            for (i, j), said in zip(places, found, strict=True)
        },
    )


def _means(found: Float[np.ndarray, "K n p"], case: Int[np.ndarray, " n"]) -> Float[np.ndarray, "K C"]:
    """Of the preferences that there are on each prompt; NaN where there is none."""
    return np.stack([pooled(pairs, case) for pairs in found])


def _entries(
    won: np.ndarray, preferences: np.ndarray, similar: np.ndarray, case: Int[np.ndarray, " n"]
) -> dict[str, float]:
    """What the tables say of two models.

    Args:
        won: win rate on each prompt, NaN where there is none.
        preferences, similar: [rows, pairs] of all pairs of answers.
        case: which prompt a row has.
    """
    heard = ~np.isnan(won)
    share, error = clustered(won[heard].tolist(), [1.0] * int(heard.sum()))
    bounds = (*redrawn(won), *wilson(share, int(heard.sum())))
    counted = ~np.isnan(preferences) & similar
    sums = np.bincount(case, np.where(counted, preferences, 0).sum(axis=1)).tolist()
    close, close_error = clustered(sums, np.bincount(case, counted.sum(axis=1)).tolist())
    fraction = float(counted.sum() / (~np.isnan(preferences)).sum())
    return dict(zip(TABLES, (share, *bounds, error, close, fraction, close_error), strict=True))


def _enter(tables: Mapping[str, np.ndarray], i: int, j: int, entries: Mapping[str, float]) -> None:
    """Fill in both entries of two models, the one of the row and what it means for the column."""
    mirrored = {"wins": "wins", "similar": "similar", "low": "high", "high": "low"}
    mirrored |= {"wilson_low": "wilson_high", "wilson_high": "wilson_low"}
    for name, value in entries.items():
        tables[name][i, j] = value
        tables[name][j, i] = 1 - entries[mirrored[name]] if name in mirrored else value


def _lengths(given: Sequence[Sequence[str]]) -> dict[str, float]:
    found = np.array([len(text) for samples in given for text in samples])
    quantiles = {f"p{q}": float(np.percentile(found, q)) for q in (10, 50, 90)}
    return {"mean": float(found.mean()), **quantiles}
