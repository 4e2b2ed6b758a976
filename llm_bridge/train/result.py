"""What training returns: the policy, where the run stands, how it ended, and its rounds as columns."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from llm_bridge.model.architecture import BridgeError
from llm_bridge.policy.policy import Policy
from llm_bridge.train.train_state import TrainState
from mmd.host.doors import nearest
from mmd.host.drawing import COLORS, empty_figure, save_figure
from mmd.host.notebook import data_frame, html_columns, html_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = dict[str, float]

SKIPS_IN_A_ROW = 5
ROUND, WIN_RATE = "round", "eval/win_rate"
UNITS = {  # of what is drawn and summed up, as far as a run has it
    "loss": "",
    "kl/magnet": "nats a response",
    "kl/initial": "nats a response",
    "entropy": "nats a token",
    "response_length": "tokens",
    "judge/failed_frac": "",
    WIN_RATE: "",
}
PANELS_A_ROW = 3


class Status(StrEnum):
    """How a run ended; the value is the sentence that is printed and written, and equals it."""

    FINISHED = "finished"
    STOPPED = "stopped by the callback"
    NOT_FINITE = f"stopped: {SKIPS_IN_A_ROW} updates in a row were not finite, and none of them was made"
    DIVERGED = "stopped: training has diverged, the policy's log-probabilities are not numbers any more"
    SILENT = "stopped: the judge answered none of a round's pairs"
    NO_ANSWERS = "stopped: the judge answered no comparison in any round"
    MAGNET_STAYED = "stopped: the magnet, which was chosen, is still the start, so it shows nothing of the training"


@dataclass(frozen=True, repr=False)
class Trace:
    """One row a round, as columns.

    Attributes:
        columns: `round`, counted from 1 over the whole run, and every metric by its name -> [rounds]. NaN where a round
            has no such metric, as between two measurements of a win rate.
    """

    columns: dict[str, Float[np.ndarray, " rounds"]]

    def __repr__(self) -> str:
        return f"Trace({len(self)} rounds of {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        """For notebooks: some rounds, from the first to the last, and the columns that hold numbers."""
        return html_columns(f"trace of {len(self):,} rounds", self.columns, (ROUND,))

    def to_pandas(self) -> Any:
        """The columns as a `pandas.DataFrame`, a row for each round.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame(self.columns)

    def __getitem__(self, column: str) -> Float[np.ndarray, " rounds"]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(self.columns[ROUND])


class Result(NamedTuple):
    """What `fit` returns.

    Attributes:
        policy: the exported one.
        state: after the last round; `fit` goes on from it.
        history: metrics of each round that this call has done.
        status: how the run ended.
        reason: the status as a sentence, with the name of the judge where the judge answered nothing.
    """

    policy: Policy
    state: TrainState
    history: list[Metrics]
    status: Status
    reason: str

    def __repr__(self) -> str:
        newest = "".join(f", {name} {value:.3g}" for name, value in self._newest().items())
        return f"Result({int(self.state.round)} rounds: {self.reason}{newest})"

    @property
    def converged(self) -> bool:
        """Whether the exploitability of the policy is certified to be at most a tolerance: False, whatever the status.

        The word means what it means in `mmd.Solution`. Training measures no exploitability, for there is no exact best
        response to a language model, so it has nothing to show convergence by. `Status.FINISHED` says that all rounds
        were done; a loss or a divergence that no longer moves says that the steps have become small.
        """
        return False

    @property
    def trace(self) -> Trace:
        """`history` as columns."""
        names = dict.fromkeys(name for row in self.history for name in row)
        last = int(self.state.round)
        rounds = np.arange(last - len(self.history) + 1, last + 1, dtype=np.float64)
        return Trace(
            {ROUND: rounds} | {name: np.array([row.get(name, np.nan) for row in self.history]) for name in names}
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The run in plain words and numbers, name -> value: a row of a table of runs; metrics are the newest ones."""
        known = {"status": self.reason, "converged": self.converged, "rounds": int(self.state.round)}
        return known | self._newest()

    def plot(self, metrics: Sequence[str] | None = None, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Metrics against rounds, a panel for each.

        Args:
            metrics: names of `history`; None for the loss, divergences, entropy, length, failures of the judge and win
                rate, as far as the run has them.
            path: where to write the figure (.png at 200 dpi, .svg, .pdf); not written if None.

        Raises:
            BridgeError: there is no round to draw, or no metric of a name.
            OutputError: matplotlib cannot be imported, or the figure cannot be written.
        """
        trace = self.trace
        names = [name for name in UNITS if name in trace.columns] if metrics is None else list(metrics)
        if not len(trace) or not names:
            raise BridgeError("there is nothing to draw: expected a run with a round behind it, and a metric of it")
        for name in names:
            if name not in trace.columns:
                raise BridgeError(f"no metric is called {name!r}: {nearest(name, trace.columns)}")
        across = min(len(names), PANELS_A_ROW)
        down = -(-len(names) // across)
        figure = empty_figure(figsize=(4.2 * across, 3.0 * down), layout="constrained")
        for number, name in enumerate(names, 1):
            _draw(figure.add_subplot(down, across, number), trace, name)
        if path is not None:
            save_figure(figure, path, dpi=200)
        return figure

    def _repr_html_(self) -> str:
        """For notebooks: the summary."""
        return html_table("training", self.summary.items())

    def to_pandas(self) -> Any:
        """The summary as a `pandas.DataFrame` of one row; `trace` has a table of its own, with a row for each round.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame({name: [value] for name, value in self.summary.items()})

    def _newest(self) -> Metrics:
        """The newest number of each metric that is summed up."""
        found = {}
        for name in UNITS:
            known = [row[name] for row in self.history if np.isfinite(row.get(name, np.nan))]
            found |= {name: known[-1]} if known else {}
        return found


def _draw(axes: "Axes", trace: Trace, name: str) -> None:
    """One metric; a win rate with its interval, and a line where neither policy is preferred."""
    known = np.isfinite(trace[name])
    rounds, values = trace[ROUND][known], trace[name][known]
    axes.plot(rounds, values, color=COLORS[0], marker="o", markersize=3, markevery=max(1, len(values) // 20))
    if name == WIN_RATE:
        low, high = (trace.columns.get(f"{name}_{side}") for side in ("low", "high"))
        if low is not None and high is not None:
            axes.fill_between(rounds, low[known], high[known], color=COLORS[0], alpha=0.2, linewidth=0)
        axes.axhline(0.5, color="0.4", linestyle=":", linewidth=1.0)
    unit = UNITS.get(name, "")
    axes.set_title(f"{name} ({unit})" if unit else name, parse_math=False, fontsize="medium")
    axes.set_xlabel("rounds")
    axes.grid(visible=True, alpha=0.3)
