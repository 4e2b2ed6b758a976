"""What `mmd bootstrap` does: intervals of the lottery of measured comparisons, printed and written as a table."""

import csv
from collections.abc import Callable

from mmd.command.options import Bootstrap as Options
from mmd.command.tables import columns
from mmd.game.game import Game
from mmd.host.files import prepare_file, replacing
from mmd.measure.bootstrap import COLUMNS, Bootstrap, Weights, bootstrap
from mmd.measure.figure import NO_MIRROR

# Less often than others (`benchmarks/claims/bootstrap_coverage.py`).
CAUTION = "in simulations 95 % intervals held a probability of 0.5 to 1 in about 90 % of cases"


def run(game: Game, options: Options, say: Callable[[list[str]], None]) -> None:
    """Draw, solve, print and write.

    Args:
        game: one that knows its comparisons.
        options: what is asked for.
        say: prints lines.

    Raises:
        GameError, OutputError: the input is bad.
    """
    if options.out is not None:
        prepare_file(options.out, (".csv",))
    found = bootstrap(
        game,
        draws=options.draws,
        level=options.level,
        seed=options.seed,
        maximal_entropy=options.maximal_entropy,
    )
    say(lines(found))
    if options.out is not None:
        with replacing(options.out) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *found.table()])


def lines(found: Bootstrap) -> list[str]:
    """The value and every probability with their intervals; the ranges where an equilibrium is not unique."""
    about = found.game.description
    level = f"the middle {100 * found.level:g} % of {found.draws:,} tables drawn again"
    interval = "in every table, by symmetry" if about.symmetric else f"{found.value_low:.4f} to {found.value_high:.4f}"
    value = f"value {found.value:.6g} ({interval})"
    shown = [
        f"{found.game.name} by an exact solver ({NO_MIRROR})",
        f"  {value}",
        *(f"  {fact}" for fact in about.facts),
        f"  interval: {level};",
        f"  {CAUTION}",
    ]
    for weights in found.weights:
        shown += [f"  {weights.player}: {_kind(weights)}", *(f"    {line}" for line in columns(_rows(weights)))]
    return shown


def _kind(weights: Weights) -> str:
    """Whether the equilibrium is unique."""
    if weights.unique:
        return "unique in the table as measured"
    return "not unique in the table as measured; ranges are over all equilibria"


def _rows(weights: Weights) -> list[tuple[str, ...]]:
    """A row for each action, the likeliest first."""
    rows = [
        (
            f"{p:.6f}",
            f"{low:.4f} to {high:.4f}",
            f"{100 * played:.0f} %",
            *(() if weights.unique else (f"{least:.4f} to {most:.4f}",)),
            action,
        )
        for action, p, low, high, played, least, most in sorted(
            zip(*weights[1:], strict=True), key=lambda row: (-row[1], -row[3], row[0])
        )
    ]
    return [("probability", "interval", "played in", *(() if weights.unique else ("range",)), ""), *rows]
