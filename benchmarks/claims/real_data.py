"""Every real matrix in ../shared/data, solved by the default, which says what it chose, and compared with HiGHS.

    python -m benchmarks.claims.real_data [--data ../shared/data]

Language-model preference tables, elections and the bot table. Results: benchmarks/results/real_data.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.report import environment, print_table, store
from mmd.measure.exact import optimal_range, solve_exactly

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
JUDGED, ARENA, BOTS = "llm/mtbench_en_six_judges.json", "llm/chatbot_arena_20240329.json", "games/rrps_bots_43.json"
UNIQUE = 1e-5  # width of the optimal face, as far as its tolerance lets one see it, below which a strategy is unique


def specs(data: Path) -> list[str]:
    """Every game that the data holds."""
    judges = json.loads((data / JUDGED).read_text())["judges"]
    return [
        f"{ARENA}#subset=fully_observed_subset",
        "llm/chatbot_arena_cyclic_subset.json",
        "llm/qlora_vicuna80_gpt4.json",
        JUDGED,
        *(f"{JUDGED}#judge={judge}" for judge in judges),
        BOTS,
        f"{BOTS}#antisymmetrized",
        *(f"elections/{path.name}" for path in sorted((data / "elections").glob("*.json"))),
    ]


def compare(data: Path, spec: str) -> dict[str, Any]:
    """Solve one file and hold it against the linear program."""
    game = games.load(str(data / spec))
    scale = game.description.payoff_range
    solution = mmd.solve(game)
    exact = solve_exactly(game)
    distances, widths = [], []
    for player, probabilities in enumerate(solution.policy.probabilities):
        low, high = optimal_range(game, player)
        widths.append(float((high - low)[1:].max()))
        outside = np.maximum(low - probabilities, probabilities - high)[1:]
        distances.append(float(outside.max()))
    return {
        "game": spec,
        "size": game.row.n_sequences - 1,
        "method": solution.algorithm["name"],
        "status": solution.status.name,
        "iterate": solution.iterate,
        "exploitability_of_range": solution.exploitability / scale,
        "value": solution.value,
        "value_error_of_range": abs(solution.value - exact.value) / scale,
        "unique": max(widths) < UNIQUE,
        "distance_to_optimal_face": max(0.0, *distances),
        "support": int((solution.policy.probabilities[0][1:] > 1e-6).sum()),
        "gradient_evaluations": solution.gradient_evaluations,
        "seconds": solution.seconds,
    }


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Every real matrix, by the default and by the linear program.")
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    results = [compare(data, spec) for spec in specs(data)]
    print_table(
        ("game", "n", "status", "exploitability / range", "value", "error / range", "unique", "to LP", "evaluations"),
        [
            (
                r["game"],
                str(r["size"]),
                r["status"].lower(),
                f"{r['exploitability_of_range']:.1e}",
                f"{r['value']:.9f}",
                f"{r['value_error_of_range']:.0e}",
                "yes" if r["unique"] else "no",
                f"{r['distance_to_optimal_face']:.0e}",
                str(r["gradient_evaluations"]),
            )
            for r in results
        ],
    )
    store("real_data", {"environment": environment(), "results": results})


if __name__ == "__main__":
    main()
