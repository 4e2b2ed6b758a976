"""Do the settings of `Restarted` and `Anchored` hold on games that they were not chosen on?

    python -m benchmarks.claims.engine_study

They were chosen on Leduc poker (docs/decisions/003). Here both engines run with every combination of metric mixing and
over-relaxation on four games from the uniform policy (gradient evaluations to 1e-3, 1e-6, 1e-9), and on six copies of
three of them whose payoff entries are multiplied by draws from U(0.8, 1.2) (exploitability after equally many
evaluations). A last row starts from 100 iterations of CFR+, mixed with 1 % uniform play, whose evaluations count.

The best of many settings looks better than it is, and trajectories are chaotic: so the contenders run once more, on
twelve copies of each game that took no part in choosing them, compared copy by copy with the default. One program a
game serves all settings of an engine. Results: benchmarks/results/engine_study.json.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.claims.convergence import evaluations_to, exploitability_at, perturbed
from benchmarks.report import environment, print_table, store
from mmd import algorithms
from mmd.game.game import Game

MARKS = (1e-3, 1e-6, 1e-9)
BASE = {"goofspiel:cards=4": 2000, "goofspiel:cards=5": 8000, "liars_dice:faces=4": 1000, "leduc_poker": 20_000}
PERTURBED = {"leduc_poker": 6000, "goofspiel:cards=5": 3500, "liars_dice:faces=4": 900}
SEEDS, FRESH_SEEDS = range(6), range(100, 112)
MIXING, RELAXATION = (0.0, 0.1, 0.25), (0.5, 0.7)
HEAD_START, UNIFORM_SHARE = 100, 1e-2
AFTER_CFR = "restarted (default) after CFR+"
CONTENDERS = ("restarted mixing 0.1 rho 0.5", "restarted mixing 0.1 rho 0.7", AFTER_CFR)


def settings() -> dict[str, Any]:
    """Both engines with every combination, by name; first each engine's default."""
    found = {}
    for engine in (mmd.Restarted(), mmd.Anchored()):
        found[f"{engine.name} (default)"] = engine
        for mixing, rho in itertools.product(MIXING, RELAXATION):
            found[f"{engine.name} mixing {mixing} rho {rho}"] = replace(engine, mixing=mixing, relaxation=rho)
    return found


def head_start(game: Game) -> mmd.Policy:
    """The average after 100 iterations of CFR+, every action given 1 % of uniform play."""
    rough = mmd.solve(game, algorithms.load("cfr+")(), tolerance=0.0, max_iterations=HEAD_START).policy
    row, column = (
        (1 - UNIFORM_SHARE) * policy + UNIFORM_SHARE * np.exp(player.uniform())
        for policy, player in zip(rough.probabilities, game.players, strict=True)
    )
    return mmd.Policy(game, (row, column))


def on_base_games(algorithm: mmd.Algorithm, *, start: bool = False) -> dict[str, dict[str, int | None]]:
    """Game -> accuracy -> gradient evaluations, CFR+'s included."""
    found = {}
    for spec, most in BASE.items():
        game = games.load(spec)
        first = head_start(game) if start else None
        solution = mmd.solve(game, algorithm, tolerance=MARKS[-1], max_iterations=most, start=first, polish=False)
        reached = {f"{mark:.0e}": evaluations_to(solution, mark) for mark in MARKS}
        found[spec] = {mark: n and n + HEAD_START * start for mark, n in reached.items()}
    return found


def on_perturbed_copies(
    algorithm: mmd.Algorithm, seeds: Iterable[int], *, start: bool = False
) -> dict[str, list[float]]:
    """Game -> exploitability of each copy after the game's budget of evaluations, CFR+'s included."""
    found: dict[str, list[float]] = {}
    for spec, budget in PERTURBED.items():
        for seed in seeds:
            game = perturbed(games.load(spec), seed)
            first = head_start(game) if start else None
            left = budget - HEAD_START * start
            solution = mmd.solve(game, algorithm, tolerance=0.0, max_iterations=left, start=first, polish=False)
            found.setdefault(spec, []).append(exploitability_at(solution, left))
    return found


def study(name: str, algorithm: mmd.Algorithm, *, start: bool = False) -> dict[str, Any]:
    """One row of the tables."""
    copies = on_perturbed_copies(algorithm, SEEDS, start=start)
    print(f"{name}: done", flush=True)
    return {
        "setting": name,
        "evaluations_to": on_base_games(algorithm, start=start),
        "perturbed": copies,
        "geometric_mean": {spec: float(np.exp(np.mean(np.log(e)))) for spec, e in copies.items()},
        "worst": {spec: max(e) for spec, e in copies.items()},
    }


def held_out() -> dict[str, Any]:
    """The contenders on fresh copies: their exploitability, and by what factor it is the default's."""
    default = on_perturbed_copies(mmd.Restarted(), FRESH_SEEDS)
    found: dict[str, Any] = {"restarted (default)": {"perturbed": default}}
    for name in CONTENDERS:
        algorithm = mmd.Restarted() if name == AFTER_CFR else settings()[name]
        copies = on_perturbed_copies(algorithm, FRESH_SEEDS, start=name == AFTER_CFR)
        logs = {spec: np.log(np.array(copies[spec]) / default[spec]) for spec in PERTURBED}
        joined = np.concatenate(list(logs.values()))
        found[name] = {
            "perturbed": copies,
            "ratio": {spec: float(np.exp(ratio.mean())) for spec, ratio in logs.items()},
            "ratio_of_all": float(np.exp(joined.mean())),
            "standard_error": float(np.exp(joined.std(ddof=1) / np.sqrt(len(joined)))),
            "worst_ratio": {spec: max(copies[spec]) / max(default[spec]) for spec in PERTURBED},
        }
        print(f"{name}: done", flush=True)
    return found


def report_held_out(found: dict[str, Any]) -> None:
    """How the contenders compare on fresh copies."""
    print()
    print_table(
        ("exploitability over the default's, 12 fresh copies", *PERTURBED, "all, */ standard error"),
        [
            (
                name,
                *(
                    f"{found[name]['ratio'][spec]:.2f} (worst {found[name]['worst_ratio'][spec]:.2f})"
                    for spec in PERTURBED
                ),
                f"{found[name]['ratio_of_all']:.2f} */ {found[name]['standard_error']:.2f}",
            )
            for name in CONTENDERS
        ],
    )


def report(rows: list[dict[str, Any]]) -> None:
    """Both tables."""
    print_table(
        ("evaluations to 1e-3 / 1e-6 / 1e-9", *BASE),
        [
            (r["setting"], *(" / ".join(str(n or "-") for n in r["evaluations_to"][spec].values()) for spec in BASE))
            for r in rows
        ],
    )
    print()
    print_table(
        ("geometric mean (worst) of 6 copies", *(f"{spec} at {budget}" for spec, budget in PERTURBED.items())),
        [
            (r["setting"], *(f"{r['geometric_mean'][spec]:.1e} ({r['worst'][spec]:.1e})" for spec in PERTURBED))
            for r in rows
        ],
    )


def main() -> None:
    """Measure, print, store."""
    rows = [study(name, algorithm) for name, algorithm in settings().items()]
    rows.append(study(AFTER_CFR, mmd.Restarted(), start=True))
    fresh = held_out()
    report(rows)
    report_held_out(fresh)
    store("engine_study", {"environment": environment(), "budgets": PERTURBED, "rows": rows, "held_out": fresh})


if __name__ == "__main__":
    main()
