"""Sampled feedback: how the gap of the last iterate falls with the samples that were used.

    python -m benchmarks.claims.noise [--iterations 30000] [--seeds 20]

One opponent is sampled for each player and evaluation; gaps are exact. MPO, GABP, OMWU, Nash-MD and EGPO, with INPO and
Halpern's anchor beside them. Nash-MD, INPO and Halpern follow their papers' schedules of step sizes, the others
constant steps. Each has nine settings and the one with the smallest mean gap at the end on a tuning game (random
preferences of 5 options) is frozen; the games below were not tuned on, and all equilibria are mixed. A slope is that of
log gap (median over seeds) against log samples, over the last decade and a half.
Results: benchmarks/results/noise.json.
"""

import argparse
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.claims.run import Maker, grid, random_preference, refreshed, setting
from benchmarks.report import environment, print_table, store
from mmd.lab import laboratory

FEEDBACK = mmd.Sampled(opponents=1)
TUNING, TUNING_SEEDS = 9001, 5
ETAS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
ALPHAS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3)
STEPS = (0.03, 0.01, 0.003)
PERIODS = (300, 1000, 3000)


def searched(name: str, *settings: dict[str, Any]) -> list[Maker]:
    """Settings of a method under the feedback of this study."""
    return grid(name, *settings, feedback=FEEDBACK)


SEARCH: dict[str, list[Maker]] = {
    "mpo": searched("mpo", *(refreshed(eta, 0.1, every) for eta in STEPS for every in PERIODS)),
    "gabp": searched("gabp", *({"eta": eta, "alpha": 0.1, "every": every} for eta in STEPS for every in PERIODS)),
    "omwu": searched("omwu", *({"eta": eta} for eta in ETAS)),
    "nash-md": searched("nash-md", *({"alpha": alpha} for alpha in ALPHAS)),
    "inpo": searched("inpo", *({"alpha": alpha} for alpha in ALPHAS)),
    "egpo": searched("egpo", *({"eta": eta, "alpha": alpha} for eta in STEPS for alpha in (0.1, 0.02, 0.005))),
    "halpern": searched("halpern", *({"eta": eta} for eta in (16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.0625))),
}


def courses(game: mmd.Game, makers: list[Maker], seeds: int, iterations: int) -> laboratory.Records:
    """All settings and seeds on a game, one batch, settings first; all methods use as many evaluations."""
    cases = [(game, one) for make in makers for one in laboratory.seeded(make(), seeds)]
    steps = iterations // getattr(cases[0][1], "evaluations", 1)
    return laboratory.run(cases, laboratory.marks(steps, per_decade=8))


def tail(gaps: np.ndarray) -> np.ndarray:
    """Mean over the last marks, a factor 3 of iterations: the last iterate alone is a draw of the noise."""
    return gaps[:, -4:].mean(axis=1)


def measured(found: laboratory.Records) -> dict[str, Any]:
    """Median course over seeds, its end, and the fitted slope."""
    samples = found.preference_calls[0].astype(float)
    course = np.median(found.last, axis=0)
    late = samples >= samples[-1] / 10**1.5
    slope, offset = np.polyfit(np.log(samples[late]), np.log(course[late]), 1)
    residual = np.log(course[late]) - slope * np.log(samples[late]) - offset
    spread = np.log(course[late]) - np.log(course[late]).mean()
    return {
        "samples": samples,
        "median_gap": course,
        "low_gap": np.percentile(found.last, 10, axis=0),
        "high_gap": np.percentile(found.last, 90, axis=0),
        "average_gap_at_the_end": np.median(found.average[:, -1]),
        "gap_at_the_end": np.median(tail(found.last)),
        "slope": slope,
        "r_squared": 1 - (residual @ residual) / max(spread @ spread, 1e-300),
    }


def main() -> None:
    """Tune, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=30_000)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    tuning = random_preference(5, TUNING)
    arena = {
        "3-cycle": games.load("preference:cycle"),
        "random 5": random_preference(5, 2),
        "random 10": random_preference(10, 3),
    }
    results: dict[str, Any] = {}
    for name, makers in SEARCH.items():
        searched = tail(courses(tuning, makers, TUNING_SEEDS, arguments.iterations).last)
        scores = searched.reshape(len(makers), TUNING_SEEDS).mean(axis=1)
        best = makers[int(np.argmin(scores))]
        results[name] = {"setting": setting(best), "scores": scores, "games": {}}
        for label, game in arena.items():
            found = courses(game, [best], arguments.seeds, arguments.iterations)
            results[name]["games"][label] = measured(found)
        print(f"  {name}: {results[name]['setting']}", flush=True)
    rows = [
        [
            label,
            name,
            *(f"{one[key]:.1e}" for key in ("gap_at_the_end", "average_gap_at_the_end")),
            f"{one['slope']:.2f}",
            f"{one['r_squared']:.2f}",
        ]
        for label in arena
        for name, result in results.items()
        for one in [result["games"][label]]
    ]
    print_table(("game", "method", "last iterate", "average", "slope", "R^2"), rows)
    store(
        "noise",
        {
            "iterations": arguments.iterations,
            "seeds": arguments.seeds,
            "feedback": "one sampled opponent",
            "environment": environment(),
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
