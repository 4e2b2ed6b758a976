"""Time of one iteration in float64 beside other solvers, on one machine in one run.

    make peers && python -m benchmarks.peers [--games kuhn_poker leduc_poker ...] [--repeats 5]

Every contender is timed in turn, `repeats` times over, while the others wait: the machine may be noisy, ratios of
neighbouring timings are less so. A ratio is theirs over ours with the same algorithm, the median over the rounds. Each
steps both players once: CFR+ in turn, MMD at the same time. Building and compiling are reported apart. LiteEFG's
steps keep no average, all others' CFR+ do. Results: benchmarks/results/peers.json.

What is timed: LiteEFG 1.0.0 (its C++ graph, one thread), OpenSpiel 2.0.2 (C++), noregret dev17 (SciPy), a plain
NumPy/SciPy sequence-form step (`benchmarks.device.iteration.SciPyStep`), and our MMD, CFR+ and `restarted`.
"""

import argparse
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import games
import mmd
from benchmarks.device.iteration import ALPHA, JaxRun, SciPyStep
from benchmarks.peers.protocol import AT_LEAST, Peer
from benchmarks.report import environment, print_table, store
from benchmarks.timing import seconds_per_step
from mmd.algorithms.cfr_plus import CFRPlus

GAMES = {  # ours -> OpenSpiel's
    "kuhn_poker": "kuhn_poker",
    "leduc_poker": "leduc_poker",
    "goofspiel:cards=4": "goofspiel(num_cards=4,imp_info=True,points_order=descending)",
    "goofspiel:cards=5": "goofspiel(num_cards=5,imp_info=True,points_order=descending)",
    "liars_dice:faces=4": "liars_dice(dice_sides=4)",
    "liars_dice:faces=5": "liars_dice(dice_sides=5)",
    "liars_dice:faces=6": "liars_dice(dice_sides=6)",
}
THEIRS = {  # label -> environment and further arguments
    "LiteEFG MMD": ("liteefg", "mmd"),
    "LiteEFG CFR+": ("liteefg", "cfr+"),
    "OpenSpiel CFR+": ("openspiel",),
    "noregret CFR+": ("noregret",),
}
SEQUENTIAL_ONLY = ("noregret",)
OURS = ("mmd", "cfr+", "restarted")
SAME = {"SciPy MMD": "mmd", **{label: "mmd" if label.endswith("MMD") else "cfr+" for label in THEIRS}}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """All contenders on one game."""
    simultaneous = name.startswith("goofspiel")
    peers = {
        label: Peer(solver, GAMES[name], *arguments)
        for label, (solver, *arguments) in THEIRS.items()
        if not (simultaneous and solver in SEQUENTIAL_ONLY)
    }
    game = games.load(name)
    magnetic = mmd.MagneticMirrorDescent(alpha=ALPHA, magnet=mmd.Fixed("uniform"))
    ours = {"mmd": JaxRun(game, magnetic), "cfr+": JaxRun(game, CFRPlus()), "restarted": JaxRun(game, mmd.Restarted())}
    for peer in peers.values():
        peer.wait()
    timers: dict[str, Callable[[], float]] = {
        "SciPy MMD": partial(seconds_per_step, SciPyStep(game).run, AT_LEAST),
        **{label: peer.seconds_per_step for label, peer in peers.items()},
        **{label: partial(seconds_per_step, ours[label].run, AT_LEAST) for label in OURS},
    }
    times = {label: np.empty(repeats) for label in timers}
    for i in range(repeats):
        for label, timer in timers.items():
            times[label][i] = timer()
    for peer in peers.values():
        peer.close()
    return {
        "game": name,
        "microseconds": {label: 1e6 * np.median(t) for label, t in times.items()},
        "minimum_microseconds": {label: 1e6 * t.min() for label, t in times.items()},
        "times_faster": {label: np.median(times[label] / times[SAME[label]]) for label in times if label in SAME},
        "build_seconds": {label: peer.ready["build_seconds"] for label, peer in peers.items()},
        "compile_seconds": {label: ours[label].compile_seconds for label in OURS},
        "versions": {solver: v for peer in peers.values() for solver, v in peer.ready["versions"].items()},
    }


def cpu_model() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description="Time of one iteration, beside other solvers.")
    parser.add_argument("--games", nargs="+", default=list(GAMES), choices=list(GAMES))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with jax.enable_x64(True):
        results = [measure(name, arguments.repeats) for name in arguments.games]
    columns = [*SAME, *OURS]
    print_table(
        ("microseconds: median (minimum)", *columns),
        [
            (
                r["game"],
                *(
                    f"{r['microseconds'][c]:,.1f} ({r['minimum_microseconds'][c]:,.1f})"
                    if c in r["microseconds"]
                    else ""
                    for c in columns
                ),
            )
            for r in results
        ],
    )
    print()
    print_table(
        ("theirs / ours", *(f"{label} / {ours}" for label, ours in SAME.items())),
        [
            (r["game"], *(f"{r['times_faster'][c]:.1f}" if c in r["times_faster"] else "" for c in SAME))
            for r in results
        ],
    )
    store("peers", {"environment": {**environment(), "cpu": cpu_model()}, "alpha": ALPHA, "results": results})


if __name__ == "__main__":
    main()
