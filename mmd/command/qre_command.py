"""What `mmd qre` does: quantal response equilibria over alpha, printed, written as a table and drawn."""

import csv
from collections.abc import Callable

import numpy as np

from mmd.command.options import Qre, UsageError
from mmd.command.tables import columns
from mmd.game.game import Game
from mmd.host.drawing import prepare_figure
from mmd.host.files import prepare_file, replacing
from mmd.lab.quantal import QuantalPath, qre_path

COLUMNS = ("alpha", "regularized_gap", "residual", "exploitability", "value", "iterations", "status")
DECADES, PER_DECADE = 3, 4  # of the payoff range downwards, where no alphas are given


def run(game: Game, options: Qre, say: Callable[[list[str]], None]) -> bool:
    """Solve, print, write and draw; whether every alpha was reached.

    Args:
        game: the game.
        options: what is asked for.
        say: prints lines.

    Raises:
        UsageError, GameError, OutputError: the input is bad.
    """
    alphas = _alphas(options.alphas, game)
    if options.out is not None:
        prepare_file(options.out, (".csv",))
    if options.plot is not None:
        prepare_figure(options.plot)
    path = qre_path(
        game, alphas, center=options.center, tolerance=options.tolerance, max_iterations=options.max_iterations
    )
    say(_lines(path))
    if options.out is not None:
        with replacing(options.out) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *path.table()])
    if options.plot is not None:
        path.plot(options.plot)
    return all(one.converged for one in path)


def _alphas(text: str | None, game: Game) -> list[float]:
    """The numbers that are separated by commas; a thousand to one of the payoff range if there are none."""
    if text is None:
        largest = game.description.payoff_range or 1.0
        return (largest * np.geomspace(1.0, 10.0**-DECADES, 1 + PER_DECADE * DECADES)).tolist()
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"expected --alphas to be numbers separated by commas, got {text!r}") from None


def _lines(path: QuantalPath) -> list[str]:
    header = ("alpha", "regularized gap", "residual", "exploitability", "value", "iterations", "")
    rows = [
        (f"{alpha:.4g}", f"{gap:.1e}", f"{residual:.1e}", f"{exploitability:.4e}", f"{value:.8g}", f"{n:,}", status)
        for alpha, gap, residual, exploitability, value, n, status in path.table()
    ]
    short = [(*row[:-1], row[-1].partition(":")[0]) for row in rows]
    return [path[0].game.name, *columns([header, *short])]
