"""The laboratory's numbers on disk: `lab.csv`, a row for each method, seed and mark, and `lab.json` with all of them.

What is not a number is null in JSON and an empty cell in CSV. `lab.json` holds for every method its resolved algorithm
and arrays [seeds, marks]: gradient evaluations, preference calls, NashConv of the last and of the average iterate, KL
from the nearest equilibrium, and in games of at most MOST_ACTIONS actions the row player's strategies.
"""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mmd.algorithms.contract import describe
from mmd.game.game import Game
from mmd.host import environment
from mmd.host.files import replacing
from mmd.lab.laboratory import Records, measurable

SCHEMA_VERSION = 1
MOST_ACTIONS = 10
COLUMNS = (
    *("method", "seed", "iteration", "gradient_evaluations", "preference_calls"),
    *("nash_conv_last", "nash_conv_average", "kl_from_nearest_equilibrium"),
)


def save(
    folder: Path,
    game: Game,
    methods: Mapping[str, Any],
    records: Mapping[str, Records],
    distances: Mapping[str, Float[np.ndarray, "C R"]],
) -> None:
    """Write both files into an existing folder.

    Args:
        folder: where.
        game: the game.
        methods: label -> algorithm.
        records: label -> what was measured.
        distances: label -> KL from the nearest equilibrium to the last iterate.
    """
    with replacing(folder / "lab.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for label, found in records.items():
            for seed, mark in np.ndindex(found.last.shape):
                counts = (found.gradient_evaluations[seed, mark], found.preference_calls[seed, mark])
                numbers = (found.last[seed, mark], found.average[seed, mark], distances[label][seed, mark])
                cells = ("" if math.isnan(number) else repr(float(number)) for number in numbers)
                writer.writerow([label, seed, found.iteration[mark], *counts, *cells])
    report = {
        "schema_version": SCHEMA_VERSION,
        "game": game.name,
        "environment": {"versions": environment.versions(), "commit": environment.commit()},
        "methods": {
            label: {"algorithm": describe(measurable(methods[label]).resolve(game))}
            | _arrays(found, distances[label], strategies=game.row.n_sequences - 1 <= MOST_ACTIONS)
            for label, found in records.items()
        },
    }
    with replacing(folder / "lab.json") as part:
        part.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _arrays(found: Records, distances: np.ndarray, *, strategies: bool) -> dict[str, Any]:
    numbers = {
        "iteration": found.iteration,
        "gradient_evaluations": found.gradient_evaluations,
        "preference_calls": found.preference_calls,
        "nash_conv_last": found.last,
        "nash_conv_average": found.average,
        "kl_from_nearest_equilibrium": distances,
    }
    if strategies:
        numbers["row_strategy"] = np.exp(found.log_policy[0][..., 1:])
    return {name: _plain(array) for name, array in numbers.items()}


def _plain(array: np.ndarray) -> Any:
    """Lists of numbers, None where there is none."""
    if array.dtype.kind == "f":
        known = array.astype(object)
        known[~np.isfinite(array)] = None
        return known.tolist()
    return array.tolist()
