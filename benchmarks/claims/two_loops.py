"""The two loops of `mpo` without a number: twelve trees and twenty preference games from the uniform policy to 1e-9.

    python -m benchmarks.claims.two_loops [--games kuhn_poker ...] [--evaluations 500000] [--seconds 900] [--page]

For every game: gradient evaluations to 1e-2, ..., 1e-9 of the last iterate, those of `anchored` beside them; a line
fitted to log10 of the exploitability between 1e-2 and 1e-9, its slope and R^2 (and R^2 for the smallest exploitability
so far, since within an inner loop the iterate swings); for every inner loop the factor by which
it contracted in a step beside the theorem's at the same eta and alpha (`mmd.measure.theory`, which admits only
eta <= alpha / L^2). For games whose one equilibrium is known and in the interior: the factor by which KL(z*, magnet)
falls in a move at a constant alpha, inner loops solved to 1e-6, beside that of a bilinear game without constraints,
1 / (1 + (sigma / alpha)^2). For copies of Leduc poker with perturbed payoffs: evaluations beside their sigma.

NashConv is measured every step on small trees and every tenth on large ones; a mark is counted where it was first
measured. Games given are measured anew and the others kept: benchmarks/results/two_loops.json. `--page` writes
docs/benchmarks/two-loops.md and its figure from what is stored.
"""

import argparse
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.sparse

import games
import mmd
from benchmarks.claims import race
from benchmarks.claims.convergence import evaluations_to, perturbed
from benchmarks.claims.real_data import ARENA, BOTS, DATA, JUDGED
from benchmarks.report import RESULTS, environment, print_table, store
from mmd.algorithms._two_loops import TwoLoops, TwoLoopsState
from mmd.host.drawing import COLORS, empty_figure
from mmd.measure import metrics, theory
from mmd.measure.exact import optimal_range, solve_exactly

MARKS = tuple(10.0**-k for k in range(2, 10))
REAL = (
    f"{ARENA}#subset=fully_observed_subset",
    "llm/chatbot_arena_cyclic_subset.json",
    "llm/qlora_vicuna80_gpt4.json",
    JUDGED,
    f"{BOTS}#antisymmetrized",
    "elections/us_ca_sfo_2010_11_supervisor-d10.json",
    "elections/us_ca_sfo_2011_11_mayor.json",
    "elections/us_ny_nyc_2021_06_mayor-primary-dem.json",
    "elections/us_vt_btv_2009_03_mayor.json",
    "elections/ca_on_yxu_2018_10_mayor.json",
)
DRAWN = tuple(f"drawn:{n}" for n in (5, 8, 10, 15, 20, 30, 40, 50, 100))
TABLES = ("preference:cycle", *DRAWN, *REAL)
KNOWN = (
    "preference:cycle",
    "interior:3",
    "interior:5",
    "interior:7",
)  # of an even number there would be many equilibria
PERTURBED = tuple(f"perturbed:{seed}" for seed in range(4))  # copies of Leduc poker
PLAYED = 1e-9  # probability of an action that an equilibrium plays
ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of sigma
SMALL = 2_000  # sequences of a player
ROWS = 100  # of a chunk
PAGE = RESULTS.parents[1] / "docs" / "benchmarks" / "two-loops.md"
UNIQUE = 1e-6
LINE = 0.98  # R^2 of what is called a line here
OPENING = """# The two loops of Magnetic Preference Optimization

By `python -m benchmarks.claims.two_loops --page`, from `benchmarks/results/two_loops.json`. `mmd.MPO()` without a
number, from the uniform policy, its *last* iterate: an inner loop of magnetic mirror descent with a magnet that stays,
then the magnet moves to the iterate. What of it is proven stands in
[theory](../explanation/theory.md); this page is measured.

Exploitability 1e-9, in payoff units, was reached on {reached} games, on {twice} of those where `anchored` reaches it in
at most twice its gradient evaluations. Each run went on until then, or to a limit that the results file names.
Not reached, at the smallest exploitability in so many evaluations: {short}. Not measured: {missing}.

Is the curve a line, from 1e-2 to 1e-9, on a logarithmic axis against evaluations? An R^2 of at least {line} says so on
{last} games. Within an inner loop the iterate swings around the regularized equilibrium, and its exploitability
with it; for the smallest exploitability so far it is {smallest}. Where that is low, too, there is a plateau before
alpha has come down to the smallest differences of the game, and a steeper fall after it.

An inner loop contracts, in the median and in KL, faster than the `1 / (1 + eta alpha)` a step that is proven for
`eta <= alpha / L^2` on {faster} games, with steps that are longer than that.

![curves, inner loops and outer loops](two-loops.svg)
"""
OUTER = """*Measured* and *theorem* are medians over inner loops of the factor of one step, in KL.

## The outer loop, by alpha

The factor of KL(z*, magnet) in a move, alpha constant and inner loops solved to 1e-6, on games with one equilibrium,
which plays every action. Sigma is the smallest singular value of the payoffs there in the metric of D; the last column
is 1 / (1 + (sigma / alpha)^2), that of a bilinear game without constraints.
"""


SLOW = """## What makes a game slow

Copies of Leduc poker whose payoffs are multiplied by uniform numbers from 0.8 to 1.2. Sigma is as above, between the
actions that an equilibrium plays: the smaller it is, the longer are the loops near the equilibrium. *Flat* is the
longest stretch of evaluations in which the smallest exploitability so far stays within a factor of 2. There an action
that the equilibrium needs has died out and comes back, or others drift until it is a best reply
([decision 17](../decisions/017-two-loops.md)).
"""


class Course(NamedTuple):
    """What is noted after each of n steps: of the state, and of the inner loop that ended last."""

    evaluations: Any
    moves: Any
    eta: Any
    alpha: Any
    first_residual: Any
    residual: Any
    steps: Any


def drawn(n: int, seed: int = 0) -> mmd.Game:
    """A preference game of n answers whose margins are uniform."""
    margins = np.triu(np.random.default_rng([n, seed]).uniform(-0.5, 0.5, (n, n)), 1)
    return games.preference.game(0.5 + margins - margins.T, name=f"drawn:{n}")


def interior(n: int) -> mmd.Game:
    """A preference game that a drawn strategy of full support solves: margins are projected until they are 0 there."""
    rng = np.random.default_rng([n, 1])
    z = rng.dirichlet(np.full(n, 5.0))
    across = np.eye(n) - np.outer(z, z) / (z @ z)
    margins = across @ (lambda a: a - a.T)(rng.uniform(-1, 1, (n, n))) @ across
    return games.preference.game(0.5 + margins / (2.5 * np.abs(margins).max()), name=f"interior:{n}")


def loaded(spec: str, data: Path) -> mmd.Game:
    """The game that a spec of this file means."""
    kind, _, n = spec.partition(":")
    if kind == "perturbed":
        return perturbed(games.load("leduc_poker"), int(n))
    if kind in ("drawn", "interior"):
        return {"drawn": drawn, "interior": interior}[kind](int(n))
    return games.load(str(data / spec) if "/" in spec else spec)


def noted(state: TwoLoopsState) -> Course:
    """What is kept of a state."""
    solved = state.solved
    return Course(
        state.gradient_evaluations,
        state.moves,
        state.eta,
        state.inner.alpha,
        solved.first_residual,
        solved.residual,
        solved.steps,
    )


@partial(jax.jit, static_argnames="every")
def chunk(algorithm: TwoLoops, game: mmd.Game, state: TwoLoopsState, every: int) -> tuple[TwoLoopsState, Course, Any]:
    """`ROWS` times `every` steps: what each noted, and the exploitability after each row."""

    def step(state: TwoLoopsState, _: None) -> tuple[TwoLoopsState, Course]:
        state = algorithm.step(game, state)
        return state, noted(state)

    def row(state: TwoLoopsState, _: None) -> tuple[TwoLoopsState, tuple[Course, Any]]:
        state, course = jax.lax.scan(step, state, None, length=every)
        return state, (course, metrics.nash_conv(game, state.iterate.gradient) / 2)

    state, (course, exploitability) = jax.lax.scan(row, state, None, length=ROWS)
    return state, jax.tree.map(lambda a: a.reshape(-1), course), exploitability


def rounded(value: float) -> float:
    """To five digits."""
    return float(f"{value:.5g}")


def fitted(n: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope and R^2 of the least-squares line."""
    slope, height = np.polyfit(n, values, 1)
    left = np.sum((values - slope * n - height) ** 2)
    return float(slope), float(1 - left / np.sum((values - values.mean()) ** 2))


@dataclass(frozen=True)
class Run:
    """A run: the course of every step, and the measured exploitabilities with their evaluations."""

    course: Course
    evaluations: np.ndarray
    exploitability: np.ndarray
    seconds: float
    policy: mmd.Policy

    def first_below(self, mark: float) -> int | None:
        """Gradient evaluations when the exploitability was first measured at most the mark."""
        there = np.flatnonzero(self.exploitability <= mark)
        return int(self.evaluations[there[0]]) if len(there) else None

    def line(self) -> dict[str, float] | None:
        """Decades an evaluation of a line through log10(exploitability) between the first and the last mark, and R^2.

        And R^2 of the line through the smallest exploitability so far: within an inner loop the iterate swings.
        """
        begin, end = self.first_below(MARKS[0]), self.first_below(MARKS[-1])
        if begin is None or end is None:
            return None
        within = (self.evaluations >= begin) & (self.evaluations <= end) & (self.exploitability > 0)
        n, log = self.evaluations[within], np.log10(self.exploitability[within])
        if len(n) < 3:
            return None
        slope, r_squared = fitted(n, log)
        return {
            "decades_per_evaluation": -slope,
            "r_squared": r_squared,
            "r_squared_of_smallest": fitted(n, np.minimum.accumulate(log))[1],
        }

    def inner_loops(self) -> list[dict[str, float]]:
        """Every inner loop that ended: alpha, steps, and measured and proven factors of a step, in KL."""
        moves = np.asarray(self.course.moves)
        ends = 1 + np.flatnonzero(np.diff(moves))
        found, begin = [], 0
        for end in ends:
            c = Course(*(np.asarray(a)[end] for a in self.course))
            alpha = float(self.course.alpha[end - 1])
            eta = np.asarray(self.course.eta[max(begin - 1, 0) : end - 1])  # noted after a step: that of the next
            steps = int(c.steps)
            found.append(
                {
                    "evaluations": int(c.evaluations),
                    "alpha": rounded(alpha),
                    "steps": steps,
                    "eta": rounded(np.exp(np.log(eta).mean())),
                    "measured": rounded((c.residual / c.first_residual) ** (2 / (steps - 1))),
                    "theorem": rounded(np.exp(np.log([theory.contraction_factor(e, alpha) for e in eta]).mean())),
                }
            )
            begin = end
        return found


def run(game: mmd.Game, algorithm: TwoLoops, evaluations: int, seconds: float, goal: float) -> Run:
    """Step from the uniform policy until the goal or a limit is reached."""
    every = 1 if max(player.n_sequences for player in game.players) <= SMALL else 10
    courses, measured = [], []
    with mmd.float64():
        on_device = game.astype(jnp.float64)
        start = tuple(jnp.asarray(player.uniform()) for player in game.players)
        state = jax.jit(algorithm.init)(on_device, start)
        spent, begun = 0.0, time.perf_counter()
        while True:
            state, course, exploitability = jax.device_get(chunk(algorithm, on_device, state, every))
            spent = time.perf_counter() - begun if courses else 0.0
            begun = begun if courses else time.perf_counter()  # the first chunk compiles
            courses.append(course)
            measured.append(exploitability)
            if measured[-1].min() <= goal or course.evaluations[-1] >= evaluations or spent >= seconds:
                break
        policy = mmd.Policy.from_log(game, jax.device_get(state.iterate.log_policy))
    whole = Course(*(np.concatenate(parts) for parts in zip(*courses, strict=True)))
    return Run(whole, whole.evaluations[every - 1 :: every], np.concatenate(measured), spent, policy)


def thinned(at: np.ndarray, values: np.ndarray, most: int = 100) -> list[list[float]]:
    """At most so many points of a curve, evenly spaced."""
    index = np.unique(np.linspace(0, len(at) - 1, most).astype(int))
    return [[int(at[i]), float(f"{values[i]:.3e}")] for i in index]


def anchored(spec: str, game: mmd.Game) -> dict[str, int | None]:
    """Evaluations of `anchored` to each mark: of the trees, those of the race."""
    if spec in race.GAMES:
        stored = json.loads((RESULTS / "race.json").read_text())["games"][spec]["runs"]["anchored"]
        marks = stored["iterates"]["last"]
        return {mark: at and at["evaluations"] for mark, at in marks.items()}
    solution = mmd.solve(game, mmd.Anchored(), tolerance=MARKS[-1], max_iterations=200_000, check_every=1)
    return {f"{mark:.0e}": evaluations_to(solution, mark) for mark in (1e-3, 1e-6, 1e-9)}


def measure(spec: str, data: Path, evaluations: int, seconds: float) -> dict[str, Any]:
    """One game."""
    jax.clear_caches()
    game = loaded(spec, data)
    algorithm = mmd.MPO().resolve(game)
    found = run(game, algorithm, evaluations, seconds, MARKS[-1])
    to = {f"{mark:.0e}": found.first_below(mark) for mark in MARKS}
    end = found.first_below(MARKS[-1]) or int(found.evaluations[-1])
    shown = found.evaluations <= end
    certificate = mmd.certify(game, found.policy.probabilities)
    return {
        "game": spec,
        "kind": "tree" if spec in race.GAMES else "preference",
        "sequences": [player.n_sequences for player in game.players],
        "algorithm": algorithm.name,
        "evaluations_to": to,
        "anchored": anchored(spec, game),
        "certified_exploitability_at_the_end": certificate.exploitability,
        "value": certificate.value,
        "evaluations": int(found.evaluations[-1]),
        "limit": {"gradient_evaluations": evaluations, "seconds": seconds},
        "seconds": found.seconds,
        "line": found.line(),
        "curve": thinned(found.evaluations[shown], found.exploitability[shown]),
        "inner_loops": [loop for loop in found.inner_loops() if loop["evaluations"] <= end],
        "environment": environment(),
    }


# -------------------------------------------------------------------- the outer loop at a constant alpha


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ConstantAlpha(TwoLoops):
    """The two loops with an alpha that stays."""

    def _next_alpha(self, solved: Any, factor: Any) -> Any:
        return solved.alpha


def directions(player: mmd.Treeplex, policy: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Changes of a plan [S, K] that keep to the actions that are played, orthonormal in the Hessian of D.

    At an infoset with weight w and own reach r, logarithms of the probabilities p change by d with <p, d> = 0; the
    Hessian of D is w r <p, d^2> there.
    """
    plan = np.asarray(player.plan_of_probabilities(jnp.asarray(policy)))
    infosets = [*zip(player.parent, player.first_sequence, player.n_actions, weights, strict=True)]
    changes = [np.zeros((len(plan), 0))]
    for parent, first, n, weight in infosets:
        played = first + np.flatnonzero(policy[first : first + n] > PLAYED)
        if plan[parent] > 0 and len(played) > 1:
            root = np.sqrt(policy[played])
            change = np.zeros((len(plan), len(played) - 1))
            change[played] = scipy.linalg.null_space(root[None]) / root[:, None] / np.sqrt(weight * plan[parent])
            changes.append(change)
    logs = np.hstack(changes)
    for parent, first, n, _ in infosets:  # from the top
        logs[first : first + n] += logs[parent]
    return plan[:, None] * logs


def smallest_singular_value(game: mmd.Game, policy: tuple[np.ndarray, ...], weights: tuple[np.ndarray, ...]) -> float:
    """The smallest one above 0 of the payoffs in the metric of D at a profile, between the actions that it plays."""
    entries = game.payoff.entries()
    shape = tuple(player.n_sequences for player in game.players)
    payoffs = scipy.sparse.csr_array((entries.values, (entries.rows, entries.columns)), shape)
    left, right = (directions(*one) for one in zip(game.players, policy, weights, strict=True))
    values = np.linalg.svd(left.T @ (payoffs @ right), compute_uv=False)
    return float(values[values > 1e-9 * values[0]].min())


def slow(spec: str, evaluations: int, seconds: float) -> dict[str, Any]:
    """Evaluations of a perturbed copy of Leduc poker, and its sigma."""
    jax.clear_caches()
    game, algorithm = loaded(spec, DATA), mmd.MPO().resolve(loaded(spec, DATA))
    found = run(game, algorithm, evaluations, seconds, MARKS[-1])
    exact = solve_exactly(game).policy.probabilities
    with mmd.float64():
        star = tuple(
            player.plan_of_probabilities(jnp.asarray(p)) for player, p in zip(game.players, exact, strict=True)
        )
        weights = jax.device_get(metrics_at(game.astype(jnp.float64), star, algorithm))
        sigma = smallest_singular_value(game, exact, weights)
    return {
        "sigma": sigma,
        "alpha_at_the_end": float(found.course.alpha[-1]),
        "evaluations_to": {f"{mark:.0e}": found.first_below(mark) for mark in MARKS},
        "flat": longest_flat(found.evaluations, found.exploitability),
        "certified_exploitability_at_the_end": mmd.certify(game, found.policy.probabilities).exploitability,
        "evaluations": int(found.evaluations[-1]),
        "limit": {"gradient_evaluations": evaluations, "seconds": seconds},
        "environment": environment(),
    }


def longest_flat(evaluations: np.ndarray, exploitability: np.ndarray) -> int:
    """The most evaluations in which the smallest exploitability so far stays within a factor of 2."""
    log = -np.log2(np.minimum.accumulate(exploitability))
    ends = np.searchsorted(log, log + 1, side="right") - 1
    return int(np.max(evaluations[ends] - evaluations))


def outer_factors(spec: str) -> dict[str, Any]:
    """The factor by which KL(z*, magnet) falls in a move, by alpha."""
    game = loaded(spec, DATA)
    exact = solve_exactly(game).policy.probabilities
    assert all((high - low).max() < UNIQUE for low, high in (optimal_range(game, player) for player in (0, 1)))
    scale = theory.smoothness(game)
    with mmd.float64():
        on_device, star = game.astype(jnp.float64), tuple(jnp.asarray(p) for p in exact)
        start = tuple(jnp.asarray(player.uniform()) for player in game.players)

        def step(algorithm: TwoLoops, state: TwoLoopsState) -> tuple[TwoLoopsState, Any]:
            state = algorithm.step(on_device, state)
            each = zip(game.players, star, state.log_magnet, state.metric.sequences, strict=True)
            kl = sum(jnp.sum(w[1:] * p[1:] * (jnp.log(p[1:]) - log[1:])) for _, p, log, w in each)
            return state, (state.moves, kl)

        algorithm = ConstantAlpha(fall=1e-6)
        state = jax.jit(algorithm.init)(on_device, start)
        weights = jax.device_get(metrics_at(on_device, star, algorithm))
        sigma = smallest_singular_value(game, exact, weights)
        many = jax.jit(lambda a, s: jax.lax.scan(lambda s, _: step(a, s), s, None, length=20_000))
        points = []
        for share in ALPHAS:
            begun = state._replace(inner=state.inner._replace(alpha=jnp.asarray(share * sigma)))
            moves, kl = jax.device_get(many(algorithm, begun)[1])
            points.append({"alpha_of_sigma": share, **fall_of(moves, kl), "bilinear": 1 / (1 + share**-2)})
    return {"game": spec, "sigma": sigma, "largest_payoff": scale, "by_alpha": points}


def metrics_at(game: mmd.Game, plan: Any, algorithm: TwoLoops) -> Any:
    """The infoset weights that the outer loop measures at a profile."""
    from mmd.algorithms._primal_dual import metric_at

    uniform = tuple(player.top_down(jnp.asarray(player.uniform())) for player in game.players)
    return metric_at(game, plan, uniform, algorithm.mixing)[0].infosets


def fall_of(moves: np.ndarray, kl: np.ndarray) -> dict[str, Any]:
    """The mean factor of a move while KL is between 1e-4 and 1e-11, and how many moves these are."""
    after = kl[1 + np.flatnonzero(np.diff(moves))]
    within = after[(after < 1e-4) & (after > 1e-11)]
    factor = float((within[-1] / within[0]) ** (1 / (len(within) - 1))) if len(within) > 1 else None
    return {"factor": factor, "moves": len(within)}


# -------------------------------------------------------------------- the page


def medians(result: dict[str, Any]) -> tuple[float, float]:
    """Median of an inner loop's factors: measured and the theorem's."""
    loops = result["inner_loops"]
    return tuple(float(np.median([one[name] for one in loops])) for name in ("measured", "theorem"))  # type: ignore[return-value]


def rows(results: dict[str, Any]) -> list[list[str]]:
    """A line for each game."""
    lines = []
    for spec, found in results.items():
        to, line = found["evaluations_to"], found["line"]
        theirs = found["anchored"]["1e-09"]
        ours = to["1e-09"]
        measured, proven = medians(found)
        lines.append(
            [
                spec.split("/")[-1].removesuffix(".json"),
                *(f"{to[mark]:,}" if to[mark] else "-" for mark in ("1e-02", "1e-03", "1e-06", "1e-09")),
                f"{theirs:,}" if theirs else "-",
                f"{ours / theirs:.2f}" if ours and theirs else "-",
                f"{1e3 * line['decades_per_evaluation']:.3g}" if line else "-",
                f"{line['r_squared']:.3f}" if line else "-",
                f"{line['r_squared_of_smallest']:.3f}" if line else "-",
                str(len(found["inner_loops"])),
                f"{measured:.4f}",
                f"{proven:.4f}",
            ]
        )
    return lines


HEADER = (
    *("game", "to 1e-2", "1e-3", "1e-6", "1e-9", "anchored 1e-9", "ratio"),
    *("decades / 1,000", "R^2", "of the smallest", "inner loops", "measured", "theorem"),
)


def draw(stored: dict[str, Any], path: Path) -> None:
    """The figure: both kinds of game, inner loops, outer loops; .svg."""
    import matplotlib

    figure = empty_figure(figsize=(10.0, 11.0), layout="constrained")
    (trees, tables), (inner, outer) = figure.subplots(2, 2)
    for axes, kind, title in ((trees, "tree", "trees"), (tables, "preference", "preference games")):
        draw_curves(axes, [found for found in stored["games"].values() if found["kind"] == kind])
        axes.set_title(f"{title}: last iterate (thin), smallest so far (thick)")
        axes.legend(fontsize="small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False)
    draw_inner(inner, stored["games"].values())
    draw_outer(outer, list(stored["outer"].values()))
    for axes in (trees, tables, inner, outer):
        axes.grid(visible=True, alpha=0.3)
        axes.title.set_fontsize("medium")
    matplotlib.rcParams["svg.hashsalt"] = "magnetic-mirror"
    figure.savefig(path, metadata={"Date": None})


def draw_curves(axes: Any, results: list[dict[str, Any]]) -> None:
    """Exploitability against the share of a run."""
    for n, found in enumerate(results):
        at, values = np.array(found["curve"]).T
        share, color = at / at[-1], COLORS[n % len(COLORS)]
        axes.plot(share, values, color=color, lw=0.5, alpha=0.6)
        smallest, dashes = np.minimum.accumulate(values), ("-", "--", ":")[n // len(COLORS)]
        short = re.split(r"[.#]", found["game"].rpartition("/")[2])[0]
        axes.plot(share, smallest, color=color, lw=1.5, ls=dashes, label=short)
    axes.set(yscale="log", ylim=(5e-10, None), xlabel="share of the run to 1e-9", ylabel="exploitability")


def draw_inner(axes: Any, results: Iterable[dict[str, Any]]) -> None:
    """Measured and proven rate of every inner loop."""
    for (kind, named), color in zip({"tree": "trees", "preference": "preference games"}.items(), COLORS, strict=False):
        held = [one for found in results if found["kind"] == kind for one in found["inner_loops"]]
        loops = [one for one in held if 0 < one["measured"] < 1]
        rates = [[-np.log(one[name]) for one in loops] for name in ("theorem", "measured")]
        axes.plot(*rates, ".", color=color, ms=3, label=named)
    axes.plot([1e-5, 3], [1e-5, 3], "k-", lw=0.8, label="as fast as the theorem says")
    axes.legend(fontsize="small", loc="upper left")
    title = "rate of a step, -log of the factor of KL, in each inner loop"
    axes.set(xscale="log", yscale="log", xlabel="theorem: log(1 + eta alpha)", ylabel="measured", title=title)


def draw_outer(axes: Any, results: list[dict[str, Any]]) -> None:
    """The factor of a move against alpha, and the formula."""
    share = np.geomspace(0.2, 5, 100)
    axes.plot(share, 1 / (1 + share**-2.0), "k-", lw=0.8, label="1 / (1 + (sigma / alpha)^2)")
    for n, found in enumerate(results):
        points = [(p["alpha_of_sigma"], p["factor"]) for p in found["by_alpha"] if p["factor"]]
        axes.plot(*zip(*points, strict=True), "osv^"[n], color=COLORS[n], ms=7 - n, label=found["game"], mfc="none")
    axes.set(
        xscale="log", xlabel="alpha / sigma", ylabel="factor", title="factor of KL(z*, magnet) in a move, by alpha"
    )
    axes.set_xticks(ALPHAS, [f"{share:g}" for share in ALPHAS])
    axes.minorticks_off()
    axes.legend(fontsize="small")


def far_of(found: dict[str, Any]) -> str:
    """A run that did not reach the last mark: the smallest exploitability that was measured, and what ended it."""
    gap, n = min(value for _, value in found["curve"]), found["evaluations"]
    ended = "" if n >= found["limit"]["gradient_evaluations"] else f", by the clock: {found['seconds']:,.0f} s"
    return f"`{found['game']}` ({gap:.1e} after {n:,}{ended})"


def shares(stored: dict[str, Any]) -> dict[str, str]:
    """How many games reach 1e-9, need at most twice what `anchored` needs, and fall along a line."""
    found = stored["games"].values()
    done = [one for one in found if one["evaluations_to"]["1e-09"]]
    beside = [one for one in done if one["anchored"]["1e-09"]]
    twice = [one for one in beside if one["evaluations_to"]["1e-09"] <= 2 * one["anchored"]["1e-09"]]
    lines = [one["line"] for one in done if one["line"]]
    last, smallest = (sum(line[name] >= LINE for line in lines) for name in ("r_squared", "r_squared_of_smallest"))
    faster = [one for one in found if len(one["inner_loops"]) and np.subtract(*medians(one)) < 0]
    far = [one for one in found if not one["evaluations_to"]["1e-09"]]
    missing = [f"`{spec}`" for spec in (*race.GAMES, *TABLES) if spec not in stored["games"]]
    return {
        "short": ", ".join(far_of(one) for one in far) or "none",
        "missing": ", ".join(missing) or "none",
        "reached": f"{len(done)} of {len(found)}",
        "twice": f"{len(twice)} of {len(beside)}",
        "last": f"{last} of {len(lines)}",
        "smallest": f"{smallest} of {len(lines)}",
        "faster": f"{len(faster)} of {len(found)}",
    }


def outer_rows(stored: dict[str, Any]) -> list[list[str]]:
    """A line for each share of sigma."""
    every = list(stored["outer"].values())
    return [
        [f"{share:g}", *(f"{one['by_alpha'][k]['factor']:.4f}" for one in every), f"{1 / (1 + share**-2):.4f}"]
        for k, share in enumerate(ALPHAS)
    ]


SLOW_HEADER = ("game", "sigma", "last alpha", "flat", "to 1e-3", "1e-6", "1e-8", "1e-9")


def slow_rows(stored: dict[str, Any]) -> list[list[str]]:
    """A line for each perturbed copy."""
    return [
        [f"`{spec}`", f"{one['sigma']:.1e}", f"{one['alpha_at_the_end']:.1e}", f"{one['flat']:,}"]
        + [f"{at:,}" if (at := one["evaluations_to"][mark]) else "-" for mark in ("1e-03", "1e-06", "1e-08", "1e-09")]
        for spec, one in stored["perturbed"].items()
    ]


def table(header: Sequence[str], lines: list[list[str]]) -> list[str]:
    """A Markdown table and an empty line."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *lines)] + [""]


def page(stored: dict[str, Any]) -> str:
    """docs/benchmarks/two-loops.md."""
    lines = OPENING.format(line=LINE, **shares(stored)).split("\n")
    for kind, title in (("tree", "Trees"), ("preference", "Preference games")):
        chosen = {spec: found for spec, found in stored["games"].items() if found["kind"] == kind}
        lines += [f"## {title}", "", *table(HEADER, rows(chosen))]
    names = [f"`{one['game']}`" for one in stored["outer"].values()]
    lines += [*OUTER.split("\n"), *table(("alpha / sigma", *names, "bilinear"), outer_rows(stored))]
    lines += [*SLOW.split("\n"), *table(SLOW_HEADER, slow_rows(stored))]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, store, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="*", default=[*race.GAMES, *TABLES, *PERTURBED])
    parser.add_argument("--evaluations", type=int, default=500_000)
    parser.add_argument("--seconds", type=float, default=900.0, help="of solving allowed to a game")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--page", action="store_true", help="only write the page and the figure from what is stored")
    arguments = parser.parse_args()
    path = RESULTS / "two_loops.json"
    stored = json.loads(path.read_text()) if path.exists() else {"games": {}, "outer": {}, "perturbed": {}}
    order = [*race.GAMES, *TABLES]
    for spec in () if arguments.page else arguments.games:
        if spec in KNOWN:
            stored["outer"][spec] = outer_factors(spec)
        if spec in order:
            stored["games"][spec] = measure(spec, arguments.data, arguments.evaluations, arguments.seconds)
        if spec in PERTURBED:
            stored.setdefault("perturbed", {})[spec] = slow(spec, arguments.evaluations, arguments.seconds)
        stored["games"] = {name: stored["games"][name] for name in sorted(stored["games"], key=order.index)}
        store("two_loops", stored)
    print_table(HEADER, rows(stored["games"]))
    if arguments.page:
        PAGE.write_text(page(stored))
        draw(stored, PAGE.with_suffix(".svg"))


if __name__ == "__main__":
    main()
