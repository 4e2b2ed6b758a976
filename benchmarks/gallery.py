"""Figures of docs/gallery/index.md that no other script draws: docs/gallery/*.svg.

    python -m benchmarks.gallery [NAME ...]

Each takes seconds, most of them compiling. What runs is `mmd`, `mpo` and their magnets on small games; which it was, as
the results name it, is stored for each figure: benchmarks/results/gallery.json.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import games
import mmd
from benchmarks.report import RESULTS, store, stored
from mmd.host.drawing import COLORS, draw_legend, empty_figure

GALLERY = RESULTS.parents[1] / "docs" / "gallery"
BIASED = [[0, -1, 3], [1, 0, -1], [-3, 1, 0]]
ACTIONS = ("rock", "paper", "scissors")
NASH = np.array([0.2, 0.6, 0.2])  # of BIASED, for both players: BIASED is antisymmetric and sends it to 0
ITERATIONS, ETA = 400, 0.1
RUNS = {
    "no magnet (mirror descent)": mmd.MagneticMirrorDescent(eta=ETA, alpha=0.0),
    "a magnet that stays": mmd.MagneticMirrorDescent(eta=ETA, alpha=0.5),
    "a magnet that moves": mmd.MagneticMirrorDescent(eta=ETA, alpha=0.5, magnet=mmd.Refresh(every=40)),
}
START = np.array([0.6, 0.3, 0.1])


class Drawn(NamedTuple):
    """A figure, and the methods of its runs, as their results name them."""

    figure: Any
    methods: set[str]


def recorded() -> dict[str, mmd.Recording]:
    """The three runs, both players from the same start."""
    game = games.matrix.game(BIASED, labels=(ACTIONS, ACTIONS), name="biased RPS")
    start = mmd.Policy.from_plans(game, (np.append(1.0, START), np.append(1.0, START)))
    return {
        label: mmd.record(game, run, ITERATIONS, to="nash", start=start, iterates=True) for label, run in RUNS.items()
    }


def on_triangle(strategies: np.ndarray) -> np.ndarray:
    """Points of the plane for strategies of three actions, [..., 3] -> [..., 2]."""
    return strategies @ np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def simplex() -> Drawn:
    """Trajectories of the row player's strategy."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure, runs = empty_figure(figsize=(6.0, 2.2), layout=ConstrainedLayoutEngine(h_pad=0.1)), recorded()
    corners = on_triangle(np.eye(3)[[0, 1, 2, 0]])
    for axes, color, (label, run) in zip(figure.subplots(1, 3), COLORS, runs.items(), strict=False):
        assert run.log_policies is not None
        path = on_triangle(np.exp(run.log_policies[0][:, -3:]))
        axes.plot(*corners.T, color="0.4", lw=0.8)
        axes.plot(*path.T, color=color, lw=1.0)
        axes.plot(*path[0], "o", color=color, ms=4, mfc="none")
        axes.plot(*path[-1], "o", color=color, ms=5)
        axes.plot(*on_triangle(NASH), "k+", ms=10)
        for name, at in zip(ACTIONS, ((0, -0.04), (1, -0.04), (0.5, 0.9)), strict=True):
            axes.text(*at, name, ha="center", va="top" if at[1] < 0 else "bottom", fontsize=9)
        axes.set(title=label, aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.16, 1.02))
        axes.title.set_fontsize("small")
        axes.axis("off")
    return Drawn(figure, {run.method for run in runs.values()})


def cycle() -> Drawn:
    """Exploitability of the same runs, last iterates, and of the average of the one without a magnet."""
    figure, runs = empty_figure(figsize=(6.0, 3.6), layout="constrained"), recorded()
    axes, game = figure.subplots(), games.matrix.game(BIASED, labels=(ACTIONS, ACTIONS), name="biased RPS")
    for color, (label, run) in zip(COLORS, runs.items(), strict=False):
        gap = run.trace.columns["exploitability"]
        axes.plot(run.trace.columns["iteration"], gap, color=color, label=f"{label}, last iterate")
        if run.log_policies is not None and label.startswith("no magnet"):
            plans = [np.exp(log[:, -3:]) for log in run.log_policies]
            steps = np.arange(1, len(plans[0]) + 1)
            x, y = (plan.cumsum(0) / steps[:, None] for plan in plans)
            payoffs = np.array(BIASED)
            average = ((y @ payoffs.T).max(1) - (x @ payoffs).min(1)) / 2
            axes.plot(run.trace.columns["iteration"], average, ":", color=color, label=f"{label}, average")
    axes.set(yscale="log", xlabel="iteration", ylabel="exploitability", title=f"{game.name}: cycle against convergence")
    axes.grid(visible=True, alpha=0.3)
    draw_legend(axes, grow=True)
    return Drawn(figure, {run.method for run in runs.values()})


def quantal() -> Drawn:
    """The path of quantal response equilibria; no run is in it."""
    game = games.matrix.game(BIASED, labels=(ACTIONS, ACTIONS), name="biased RPS")
    return Drawn(mmd.qre_path(game, np.geomspace(10, 1e-3, 25)).plot(), set())


def drawn(player: mmd.Treeplex, uniform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A drawn log-policy of a player with two actions at every information set, [S]."""
    log_policy = np.array(uniform)
    for first in range(1, player.n_sequences, 2):
        log_policy[first : first + 2] = np.log(rng.dirichlet([1.0, 1.0]))
    return log_policy


def kuhn() -> Drawn:
    """The family of equilibria of Kuhn poker, and where MPO ends from twelve starts."""
    game, rng = games.load("kuhn_poker"), np.random.default_rng(1)
    figure = empty_figure(figsize=(5.0, 3.8), layout="constrained")
    axes, methods = figure.subplots(), set()
    axes.plot([0, 1 / 3], [0, 1], "k-", lw=1, label="all equilibria: K bets 3 times as often as J")
    for n in range(12):
        start = tuple(player.uniform() for player in game.players)
        start = tuple(drawn(player, log, rng) for player, log in zip(game.players, start, strict=True))
        found = mmd.solve(game, mmd.MPO(), start=start, tolerance=1e-9)
        methods.add(found.method)
        bets = [found.policy["row", f"{card}|"]["bet"] for card in "JK"]
        axes.plot(*bets, "o", color=COLORS[0], ms=5, mfc="none", label="last iterate of MPO" if n == 0 else None)
    axes.set(xlabel="probability of a bet with J", ylabel="probability of a bet with K", title="Kuhn poker, first move")
    axes.legend(fontsize="small", loc="lower right")
    axes.grid(visible=True, alpha=0.3)
    return Drawn(figure, methods)


def rate() -> Drawn:
    """A theorem and its measurement on a 5 x 5 matrix, that of the tutorial."""
    payoffs = np.random.default_rng(5).integers(-3, 4, (5, 5)) / 3
    run = mmd.record(games.matrix.game(payoffs, name="a 5 x 5 matrix"), mmd.MagneticMirrorDescent(alpha=0.3))
    figure = empty_figure(figsize=(6.0, 4.0), layout="constrained")
    mmd.plot_convergence({"MMD, alpha 0.3": run}, "iterations", y="kl", ax=figure.subplots())
    return Drawn(figure, {run.method})


FIGURES: dict[str, Callable[[], Drawn]] = {
    "simplex": simplex,
    "cycle": cycle,
    "qre-path": quantal,
    "kuhn-family": kuhn,
    "linear-rate": rate,
}


def main(folder: Path = GALLERY) -> None:
    """Draw those that are named, or all."""
    import matplotlib

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(FIGURES)}; all if none is given")
    names = parser.parse_args().names or list(FIGURES)
    if unknown := set(names) - set(FIGURES):
        parser.error(f"expected figures of {', '.join(FIGURES)}, got {', '.join(sorted(unknown))}")
    methods = stored("gallery")
    for name in names:
        with matplotlib.rc_context({"svg.hashsalt": "magnetic-mirror"}):
            drawn = FIGURES[name]()
            drawn.figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        methods[name] = sorted(drawn.methods)
        print(f"drew {name}")
    store("gallery", methods)


if __name__ == "__main__":
    main()
