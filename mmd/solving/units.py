"""Games whose payoffs are so small or so large that squares of them leave the range of float64, in other units.

Payoffs times a power of two are exact, and so is everything that is measured in them, on the way there and back.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mmd.game.game import Game
from mmd.game.payoff import Entries
from mmd.game.policy import Policy
from mmd.measure.solution import Solution, Trace

SMALLEST, LARGEST = 2.0**-200, 2.0**200  # of a payoff range for which the user's own units will do
IN_UNITS = ("exploitability", "nash_conv", "regularized_gap", "average_exploitability", "value")
IN_UNITS_OF_A_TRY = ("nash_conv_before", "nash_conv_after")


def exponent(game: Game) -> int:
    """K such that payoffs times 2^-k are about 1 if they are extreme; else 0."""
    size = game.description.payoff_range
    return 0 if size == 0 or SMALLEST <= size <= LARGEST else int(np.frexp(size)[1])


def in_other_units(game: Game, k: int) -> Game:
    """The game with payoffs times 2^-k, without its offset."""
    rows, columns, values = game.payoff.entries()
    payoff_range = float(np.ldexp(game.description.payoff_range, -k))
    described = replace(game.description, payoff_range=payoff_range, offset=0.0)
    return Game.from_entries(game.players, Entries(rows, columns, np.ldexp(values, -k)), described)


def row_back(row: Mapping[str, Any], game: Game, k: int) -> dict[str, Any]:
    """A row, or all columns, of a trace of `in_other_units(game, k)` in the units of the game."""
    scaled = {name: np.ldexp(value, k) if name in IN_UNITS else value for name, value in row.items()}
    return scaled | {"value": scaled["value"] + game.description.offset}


def back(solution: Solution, game: Game, k: int) -> Solution:
    """A solution of `in_other_units(game, k)` as one of the game itself."""
    report = solution.polish
    if report is not None:
        tries = [one | {name: float(np.ldexp(one[name], k)) for name in IN_UNITS_OF_A_TRY} for one in report["tries"]]
        report = report | {"tries": tries}
    return replace(
        solution,
        game=game,
        policy=Policy(game, solution.policy.probabilities),
        tolerance=float(np.ldexp(solution.tolerance, k)),
        value=float(np.ldexp(solution.value, k)) + game.description.offset,
        nash_conv=float(np.ldexp(solution.nash_conv, k)),
        trace=Trace(row_back(solution.trace.columns, game, k)),
        polish=report,
    )
