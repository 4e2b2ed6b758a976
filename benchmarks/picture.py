"""README's picture, docs/picture.svg and docs/picture-dark.svg, from stored results.

    python -m benchmarks.picture

Left, `two_loops.json`: exploitability of the last iterate of `mmd.MPO()` on three games. Right, `truth.json`: the same
of small transformers that are trained against a judge whose preferences run in circles, median of five seeds. Nothing
is measured here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import RESULTS
from benchmarks.truth import page as truth
from mmd.host.drawing import empty_figure

PICTURE = RESULTS.parents[1] / "docs" / "picture.svg"
GAMES = {"kuhn_poker": "Kuhn poker", "goofspiel:cards=5": "goofspiel, 5 cards", "leduc_poker": "Leduc poker"}
METHODS = {"mpo": "MPO", "inpo": "INPO", "sppo": "SPPO", "iterative dpo": "iterative DPO"}
GAME, SAMPLES = "cycle/0", 640  # samples between two points of a course
LIGHT = {"ink": "#24292f", "lines": ("#0b6e99", "#b35900", "#7a3e9d", "#57606a")}
DARK = {"ink": "#e6edf3", "lines": ("#58b6e8", "#ffa657", "#d2a8ff", "#9da7b1")}
STYLES = ("-", "--", "-.", ":")


def courses(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """Exploitability of the last iterate of each method, by its frozen setting, [51]; stored are duality gaps."""
    best = truth.chosen(list(found["results"].values()))
    of_game = {name: next(one for one in best[name] if one["game"] == GAME) for name in METHODS}
    return {name: np.array(one["last"]["course"]) / 2 for name, one in of_game.items()}


def draw(path: Path, look: dict[str, Any]) -> None:
    """One of the two pictures."""
    import matplotlib

    known = {name: json.loads((RESULTS / f"{name}.json").read_text("utf-8")) for name in ("two_loops", "truth")}
    ink = look["ink"]
    inked = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    with matplotlib.rc_context({**inked, "svg.hashsalt": "magnetic-mirror", "font.size": 9}):
        figure = empty_figure(figsize=(6.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (game, label), color, style in zip(GAMES.items(), look["lines"], STYLES, strict=False):
            at, values = np.array(known["two_loops"]["games"][game]["curve"]).T
            left.plot(at, values, style, color=color, label=label)
        left.set(xscale="log", yscale="log", xlabel="gradient evaluations", ylabel="exploitability")
        left.set_title("games: last iterate of MPO")
        for (name, values), color, style in zip(courses(known["truth"]).items(), look["lines"], STYLES, strict=True):
            right.plot(np.arange(len(values)) * SAMPLES, values, style, color=color, label=METHODS[name])
        right.set(yscale="log", xlabel="sampled responses", ylabel="exploitability")
        right.set_title("a language model: last iterate")
        right.set_xticks(range(0, 30_001, 10_000), ["0", "10,000", "20,000", "30,000"])
        for axes in (left, right):
            axes.grid(visible=True, alpha=0.2, color=ink)
            axes.title.set_fontsize("medium")
            axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, columnspacing=1.2)
            axes.set_facecolor("none")
        figure.savefig(path, metadata={"Date": None}, transparent=True)


def main() -> None:
    """Draw both."""
    draw(PICTURE, LIGHT)
    draw(PICTURE.with_name("picture-dark.svg"), DARK)


if __name__ == "__main__":
    main()
