"""What annealed and moving magnets reach with given numbers: the settings of the MMD paper, and others on Leduc poker.

    python -m benchmarks.claims.moving_magnet [--games leduc_poker ...]

Exploitability of the last iterate after 1,000 and 10,000 iterations, and the largest one from 7,500 on: a run that
circles is seen there. Of the moving magnet on Leduc poker also after 100,000, and the largest from 75,000 on. Settings
are written as `mmd compare --algorithms` takes them. Results: benchmarks/results/moving_magnet.json;
docs/how-to/choose-an-algorithm.md quotes them.
"""

import argparse
import json
from typing import Any

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.command.settings import named

ANNEALED = "mmd-behavioral:eta={},alpha={},annealed=true,magnet=fixed,center=uniform"
PAPER = {  # eta and alpha of the annealed form
    "kuhn_poker": (1, 1),
    "leduc_poker": (1, 5),
    "liars_dice:faces=4": (2, 1),
    "dark_hex": (1, 1),
}
BEHAVIORAL = "mmd-behavioral:eta={},alpha={},magnet={},center=uniform"
ON_LEDUC = (
    *(BEHAVIORAL.format(0.1, alpha, "moving=0.05") for alpha in (0.3, 2, 5)),
    *(BEHAVIORAL.format(eta, 1, "moving=0.05") for eta in (0.03, 0.3)),
    *(BEHAVIORAL.format(0.1, 1, f"moving={rate}") for rate in (0.005, 0.01)),
    *(BEHAVIORAL.format(0.1, 1, f"refresh={every}") for every in (20, 100, 500)),
    *(f"mmd:eta=2,alpha={alpha},magnet=moving={rate}" for alpha, rate in ((0.01, 0.01), (0.02, 0.02), (0.1, 0.05))),
    *(f"mmd:eta=2,alpha={alpha},magnet=refresh={every}" for alpha, every in ((0.01, 100), (0.02, 100), (0.1, 30))),
    "mmd:eta=5,alpha=0.02,magnet=moving=0.05",
)
MARKS, LATE, CHECKS = (1_000, 10_000), 0.75, 50  # LATE is a share of the last mark
LONG = "leduc_poker", "mmd-behavioral", (100_000,)


def settings(spec: str) -> tuple[str, ...]:
    """What runs on a game."""
    eta, alpha = PAPER[spec]
    return ANNEALED.format(eta, alpha), "mmd-behavioral", "mpo", *(ON_LEDUC if spec == "leduc_poker" else ())


def run(spec: str, word: str, marks: tuple[int, ...] = MARKS) -> dict[str, Any]:
    """One line of the table."""
    game = games.load(spec)
    (algorithm,) = named(word, game).values()
    solution = mmd.solve(game, algorithm, tolerance=1e-12, max_iterations=marks[-1], check_every=CHECKS)
    at, values = solution.trace["iteration"], solution.trace["exploitability"]
    after = {str(mark): values[at <= mark][-1] for mark in marks}
    late = values[at >= min(LATE * marks[-1], at[-1])]
    return {
        "exploitability_after": after,
        "largest_late": late.max(),
        "iterations": solution.iterations,
        "gradient_evaluations": solution.gradient_evaluations,
        "status": solution.status.value,
    }


def rows(found: dict[str, Any]) -> list[str]:
    """The table of the page: the paper's settings, and after the last mark their exploitability and that of others."""
    lines = []
    for spec in PAPER:
        annealed, *others = settings(spec)[:3]
        ends = [f"{found[spec][word]['exploitability_after'][str(MARKS[-1])]:.1e}" for word in (annealed, *others)]
        lines.append(f"| `{spec}` | `{annealed}` | {' | '.join(ends)} |")
    return lines


def main() -> None:
    """Measure, print, store; games that are not measured keep what is stored of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=PAPER, default=list(PAPER))
    stored = RESULTS / "moving_magnet.json"
    known = json.loads(stored.read_text("utf-8")) if stored.exists() else {"results": {}, "long": None}
    found = known["results"]
    for spec in parser.parse_args().games:
        found[spec] = {}
        for word in settings(spec):
            found[spec][word] = run(spec, word)
            print(spec, word, found[spec][word]["exploitability_after"], flush=True)
        if spec == LONG[0]:
            known["long"] = run(*LONG)
    print_table(
        ("game", "setting", *(f"after {mark:,}" for mark in MARKS), f"largest from {LATE * MARKS[-1]:,.0f} on"),
        [
            (
                spec,
                word,
                *(f"{value:.1e}" for value in one["exploitability_after"].values()),
                f"{one['largest_late']:.1e}",
            )
            for spec, by_word in found.items()
            for word, one in by_word.items()
        ],
    )
    store("moving_magnet", {"environment": environment(), "results": found, "long": known["long"]})


if __name__ == "__main__":
    main()
