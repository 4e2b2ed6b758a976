"""The rate that is proven and the one that is measured, on ten games: matrices, preference games, trees.

    python -m benchmarks.claims.theorem_rates [--games kuhn_poker ...] [--page]

Magnetic mirror descent with a magnet that stays and the largest step that Theorem 3.4 of Sokota et al. (ICLR 2023)
admits, `eta = alpha / L^2`: KL(z*, z_k) to the regularized equilibrium z*, which `mmd.qre` finds by other steps, at
every iteration down to 1e-16 of the first. One game is one command, `mmd rate SPEC --alpha A`, and the page prints it.
Beside the theorem's factor and that of the fitted line stands the factor of the linearised step: the squared modulus of
the largest eigenvalue of the step's derivative at z*, by Arnoldi's iteration. Games given are measured anew and the
others kept: benchmarks/results/theorem_rates.json. `--page` writes docs/benchmarks/theorem-rates.md and its figure
from what is stored.
"""

import argparse
import json
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import LinearOperator, eigs

import games
import mmd
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.command.rate_command import summary
from mmd.game.policy import Policy
from mmd.host.drawing import COLORS, PLAIN, empty_figure, save_figure
from mmd.measure import metrics
from mmd.measure.figure import PAPER

PAGE = RESULTS.parents[1] / "docs" / "benchmarks" / "theorem-rates.md"
MATRICES = "benchmarks/claims/matrices"
POINTS = 120  # of a curve that is stored
STRAIGHT = 0.75  # of all decades: a fit to fewer of them is not a fit to the curve
SEED = 1  # of the starts: with the uniform one a symmetric game has nothing to do


class Case(NamedTuple):
    """A game as the command takes it, and alpha, in payoff units."""

    spec: str
    alpha: float
    kind: str


CASES = (
    Case(f"{MATRICES}/biased_rps.csv", 0.75, "matrix"),
    Case(f"{MATRICES}/uniform_13x16.csv", 0.25, "matrix"),
    Case("preference:rock_paper_scissors", 0.1, "preference"),
    Case("preference:cycle", 0.1, "preference"),
    Case("token_tree:vocabulary=3,length=2", 0.1, "preference"),
    Case("kuhn_poker", 0.1, "tree"),
    Case("dark_hex", 0.25, "tree"),
    Case("liars_dice:faces=3", 0.03, "tree"),
    Case("goofspiel:cards=4", 0.25, "tree"),
    Case("leduc_poker", 0.03, "tree"),
)
KINDS = (("matrix", "matrices"), ("preference", "preference games"), ("tree", "trees"))
OPENING = """# The theorem, measured

By `python -m benchmarks.claims.theorem_rates --page`, from `benchmarks/results/theorem_rates.json`. Magnetic mirror
descent with a magnet that stays comes to the equilibrium `z*` of the *regularized* game along a line on a logarithmic
axis:

    KL(z*, z_k)  <=  (1 + eta alpha)^-k  KL(z*, z_0)        for eta <= alpha / L^2

is a theorem (Sokota et al. 2023, Theorem 3.4; [what is proven](../explanation/theory.md)). Here `eta = alpha / L^2`,
from a drawn start, on {kinds}. `z*` is found by other steps (`mmd.qre`) and KL is
measured at every iteration. Of the original game's equilibrium nothing is proven, and nothing is said
here.{missing}

The bound holds at every iteration on {holds} games. KL falls along one line on {lines}{bent}. The
fitted rate is {least} to {most} times the proven one.

![KL to the regularized equilibrium, the line through it and the theorem's](theorem-rates.svg)

*Factor*: what an iteration multiplies KL by. *Linearized*: the squared modulus of the largest eigenvalue of the step's
derivative at `z*`, which is where the line comes from. *Rate*: the measured over the proven one, of logarithms.

"""
BENT = """; on {games} it bends, the longer straight part
is what was fitted, and the linearized factor is that of the end"""
CLOSING = """
Why the theorem is not always tight. Near `z*`, and in the metric of the entropy, a step is
`(I + eta J) / (1 + eta alpha)` with `J` antisymmetric: it turns, and shrinks. For a singular value `sigma` of the
payoffs in that metric KL falls by `(1 + eta^2 sigma^2) / (1 + eta alpha)^2`. With `eta = alpha / L^2` that is the
theorem's factor where `sigma = L`, as in matching pennies, and its square, twice the rate, where `sigma` is small
beside `L`. So near `z*` the rate lies between once and twice the proven one, and the largest `sigma` decides.

A matrix of your own is a .csv file of numbers without a header, entry (i, j) what the row player receives, and the
command is `mmd rate mine.csv --alpha 0.25 --seed 1 --plot rate.svg`. Any alpha above 0 will do; here it is about L/4,
and a smaller one takes about `ln(10) (L / alpha)^2` iterations a decade. `--seed` draws the start: without it the start
is uniform, which in a symmetric game may be the equilibrium. Fits end where KL has fallen 14 decades, before rounding.

Each row is one command, which prints it, writes it with `--out FOLDER` and draws it with `--plot FILE` (.png, .svg or
.pdf):

"""


def key_of(case: Case) -> str:
    """What a game is called here."""
    return Path(case.spec).stem if case.kind == "matrix" else case.spec


def linearized_factor(game: mmd.Game, algorithm: Any, star: Policy) -> float:
    """The factor of KL in a step that is linearised at the equilibrium `star`."""
    sizes = np.cumsum([0, *(player.n_sequences for player in game.players)])
    with mmd.float64():
        on_device = game.astype(jnp.float64)
        logs = tuple(jnp.asarray(np.log(p)) for p in star.probabilities)
        state = jax.jit(algorithm.init)(on_device, logs)

        def step(z: Any) -> Any:
            at = metrics.profile(on_device, (z[: sizes[1]], z[sizes[1] :]))
            return jnp.concatenate(algorithm.step(on_device, state._replace(iterate=at)).iterate.log_policy)

        point = jnp.concatenate(logs)
        push = jax.jit(lambda d: jax.jvp(step, (point,), (d,))[1])
        n = int(sizes[-1])
        start = np.random.default_rng(0).normal(size=n)
        if n <= 30:
            values = np.linalg.eigvals(np.stack([np.asarray(push(jnp.asarray(e))) for e in np.eye(n)], axis=1))
        else:
            operator = LinearOperator((n, n), dtype=float, matvec=lambda d: np.asarray(push(jnp.asarray(d.ravel()))))
            values = eigs(operator, k=4, v0=start, return_eigenvectors=False)
    return float(np.abs(values).max() ** 2)


def measure(case: Case) -> dict[str, Any]:
    """One game."""
    jax.clear_caches()
    game, begun = games.load(case.spec), time.process_time()
    descent = mmd.MagneticMirrorDescent(alpha=case.alpha)
    run = mmd.record(game, descent, start=Policy.random(game, SEED))
    assert run.equilibrium is not None
    spent = time.process_time() - begun
    rate, kl = mmd.linear_rate(run), run.trace["kl"]
    at = np.unique(np.linspace(0, len(kl) - 1, POINTS).astype(int))
    return {
        "kind": case.kind,
        "spec": case.spec,
        "sequences": [player.n_sequences for player in game.players],
        "algorithm": run.method,
        **summary(game, run, rate),
        "linearized_factor": linearized_factor(game, descent.resolve(game), run.equilibrium),
        "line": [rate.start, rate.rate],
        "curve": [[int(k), float(f"{kl[k]:.4e}")] for k in at],
        "processor_seconds": spent,
        "environment": environment(),
    }


# -------------------------------------------------------------------- the page


HEADER = ("game", "L", "alpha", "eta", "proven factor", "measured", "linearized", "R^2", "decades", "rate")


def rows(stored: dict[str, Any]) -> list[list[str]]:
    """A line for each game."""
    return [
        [
            f"`{name}`",
            f"{one['smoothness']:.4g}",
            f"{one['alpha']:g}",
            f"{one['eta']:.4g}",
            f"{one['proven_factor']:.5f}",
            f"{one['measured_factor']:.5f}",
            f"{one['linearized_factor']:.5f}",
            f"{one['r_squared']:.5f}",
            f"{one['decades']:.1f}",
            f"{one['measured_over_proven_rate']:.2f}",
        ]
        for name, one in stored.items()
    ]


def fallen(one: dict[str, Any]) -> float:
    """Decades that KL falls in all."""
    return float(np.log10(one["curve"][0][1] / one["curve"][-1][1]))


def page(stored: dict[str, Any]) -> str:
    """docs/benchmarks/theorem-rates.md."""
    found = list(stored.values())
    ratios = [one["measured_over_proven_rate"] for one in found]
    missing = [f"`{key_of(case)}`" for case in CASES if key_of(case) not in stored]
    bends = [f"`{name}`" for name, one in stored.items() if one["decades"] < STRAIGHT * fallen(one)]
    counts = ((sum(one["kind"] == kind for one in found), words) for kind, words in KINDS)
    said = OPENING.format(
        kinds=", ".join(f"{n} {words}" for n, words in counts),
        missing=f" Not measured yet: {', '.join(missing)}." if missing else "",
        holds=f"{sum(one['bound_holds'] for one in found)} of {len(found)}",
        lines=f"{sum(one['is_line'] for one in found) - len(bends)} of {len(found)}",
        bent=BENT.format(games=", ".join(bends)) if bends else "",
        least=f"{min(ratios):.2f}",
        most=f"{max(ratios):.2f}",
    )
    table = [f"| {' | '.join(row)} |" for row in (HEADER, ["---"] * len(HEADER), *rows(stored))]
    commands = [f"    mmd rate {one['spec']} --alpha {one['alpha']:g} --seed {SEED}" for one in found]
    return _wrapped(said) + "\n".join(table) + "\n" + CLOSING + "\n".join(commands) + "\n"


def _wrapped(text: str) -> str:
    """Paragraphs in lines of one width; formulas, which are indented, as they are."""
    parts = (
        part if part.startswith((" ", "#", "!")) else textwrap.fill(part, 118) for part in text.strip().split("\n\n")
    )
    return "\n\n".join(parts) + "\n\n"


def draw(stored: dict[str, Any], path: Path) -> None:
    """Ten panels: what is measured, the line through it, the theorem's."""
    from matplotlib import rc_context

    empty_figure()
    look: dict[Any, Any] = {**PLAIN, **PAPER, "svg.hashsalt": "magnetic-mirror"}
    with rc_context(look):
        figure = empty_figure(figsize=(5.0, 8.4), layout="constrained")
        panels = figure.subplots(5, 2, sharey=True)
        for axes, (name, one) in zip(panels.ravel(), stored.items(), strict=False):
            draw_game(axes, name, one)
        for axes in panels[:, 0]:
            axes.set_ylabel("KL(z*, z), in nats")
        for axes in panels[-1]:
            axes.set_xlabel("iterations")
        named = panels[0, 0].get_lines()
        figure.legend(handles=named, ncols=3, loc="outside upper center", fontsize=8, columnspacing=1.2)
        save_figure(figure, path, dpi=300)


def draw_game(axes: Any, name: str, one: dict[str, Any]) -> None:
    """One panel."""
    k, kl = np.array(one["curve"]).T
    first, last = one["stretch"]
    bound = kl[0] * one["proven_factor"] ** k
    axes.plot(k[::4], kl[::4], "o", color=COLORS[0], mfc="none", label="measured")
    start, rate = one["line"]
    ends = np.array([first, last])
    axes.plot(ends, start * np.exp(-rate * (ends - first)), color=COLORS[1], label="line fitted to it")
    axes.plot(k, bound, "-.", color="0.25", label="theorem: $(1 + \\eta\\alpha)^{-k}$ of the first")
    axes.set(yscale="log", ylim=(1e-15, 1e3))
    factors = f"measured {one['measured_factor']:.4f}, proven {one['proven_factor']:.4f}"
    axes.set_title(f"{name}\n{factors}", parse_math=False)
    axes.grid(visible=True, alpha=0.3)


def main() -> None:
    """Measure, print, store, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [key_of(case) for case in CASES]
    parser.add_argument("--games", nargs="*", default=names, choices=names)
    parser.add_argument("--page", action="store_true", help="only write the page and the figure from what is stored")
    arguments = parser.parse_args()
    path = RESULTS / "theorem_rates.json"
    stored = json.loads(path.read_text()) if path.exists() else {}
    for case in () if arguments.page else CASES:
        if key_of(case) in arguments.games:
            stored[key_of(case)] = measure(case)
            stored = {name: stored[name] for name in sorted(stored, key=names.index)}
            store("theorem_rates", stored)
    print_table(HEADER, rows(stored))
    if arguments.page:
        PAGE.write_text(page(stored))
        draw(stored, PAGE.with_suffix(".svg"))


if __name__ == "__main__":
    main()
