"""The claims of the field on games whose truth is known: every method, exact feedback, the same search of settings.

    python -m benchmarks.claims.run [--games NAME ...] [--page]

For each method: which equilibrium it ends at, NashConv of the last and of the average iterate after 1e2, 1e3 and 1e4
gradient evaluations, an empirical rate, model copies, preference calls; and for each draw the gradient evaluations to
NashConv 1e-6 (the better of last and average iterate, measured after every iteration), with `restarted` beside, with
and without its polish. Shares: on how many draws `restarted` is first among the mirror and magnet methods, and within
3x of the best of all.

Settings: a grid of nine for each method that has numbers to set, chosen on three tuning games (random preferences of 5
and of 20 options, whose seeds are used nowhere else, and a 3-cycle with shares of its own) by the evaluations to 1e-6,
or by the gap left; then frozen. All games are preferences or scaled into [-1/2, 1/2], so that step sizes have one unit.
Results: benchmarks/results/claims.json; `--page` writes docs/benchmarks/claims.md from it.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import games
import mmd
from benchmarks.claims.page import LIMIT, MARKS, PLAIN, RESTARTED, TARGET, median, page
from benchmarks.report import RESULTS, environment, store
from games import matrix, preference
from mmd import algorithms
from mmd.algorithms.contract import Algorithm, describe
from mmd.lab import laboratory
from mmd.measure.equilibria import OptimalSet

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "claims.md"
DRAWS = 20
POLISH = {RESTARTED: True, PLAIN: False}
TUNING_SEEDS = {5: 9001, 20: 9002}
TUNING_SHARES = (0.95, 0.85, 0.9)  # a stronger cycle than those that are measured

Maker = Callable[[], Algorithm]


def method(name: str, **numbers: Any) -> Maker:
    """A setting of a method."""
    return lambda: algorithms.load(name)(**numbers)


def grid(name: str, *settings: dict[str, Any], **shared: Any) -> list[Maker]:
    """Settings of a method, which differ in numbers only."""
    return [method(name, **numbers, **shared) for numbers in settings]


def refreshed(eta: float, alpha: float, every: int) -> dict[str, Any]:
    """A magnet that is copied every so many steps."""
    return {"eta": eta, "alpha": alpha, "magnet": mmd.Refresh(every=every)}


ETAS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ALPHAS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5)


def square(name: str, etas: tuple[float, ...], alphas: tuple[float, ...]) -> list[Maker]:
    """Every step size with every strength of the magnet."""
    return grid(name, *({"eta": eta, "alpha": alpha} for eta in etas for alpha in alphas))


REFRESHED = (
    (1.6, 0.1, 10),
    (2.0, 0.5, 20),
    (3.2, 0.05, 20),
    (3.2, 0.1, 10),
    (3.2, 0.2, 5),
    (6.4, 0.05, 10),
    (6.4, 0.1, 5),
    (12.8, 0.05, 5),
    (12.8, 0.1, 3),
)
SEARCH: dict[str, list[Maker]] = {
    "self-play": grid("self-play", *({"eta": e} for e in ETAS)),
    "online-ipo": square("online-ipo", (1.0, 2.0, 4.0), (0.03, 0.01, 0.003)),
    "iterative-dpo": grid("iterative-dpo", *({"alpha": 1 / e} for e in ETAS)),
    "nash-md": grid("nash-md", *({"alpha": a} for a in ALPHAS)),
    "inpo": grid("inpo", *({"alpha": a} for a in ALPHAS)),
    "onpo": grid("onpo", *({"eta": e} for e in ETAS)),
    "omwu": grid("omwu", *({"eta": e} for e in ETAS)),
    "egpo": square("egpo", (2.0, 4.0, 8.0), (3e-4, 1e-4, 3e-5)),
    "comal": square("comal", (1.0, 2.0, 4.0), (0.03, 0.1, 0.2)),
    "mpo": grid("mpo", *(refreshed(*setting) for setting in REFRESHED)),
    "gabp": grid("gabp", *({"alpha": a, "every": k} for a in (0.1, 0.3, 1.0) for k in (10, 30, 100))),
    "asymmetric": square("asymmetric", (0.5, 1.0, 2.0), (0.01, 0.03, 0.1)),
    "halpern": grid("halpern", *({"eta": 16 * e} for e in ETAS)),
    "optimistic": grid("optimistic", {}),
    "extragradient": grid("extragradient", {}),
    "averaged": grid("averaged", {}),
    "anchored": grid("anchored", {}),
    "cfr+": grid("cfr+", {}),
    "pcfr+": grid("pcfr+", {}),
    "pdcfr+": grid("pdcfr+", {}),
}
REGRET = ("cfr+", "pcfr+", "pdcfr+")


def random_preference(n: int, seed: int) -> mmd.Game:
    """Shares drawn uniformly from [0, 1] for every pair."""
    above = np.triu(np.random.default_rng(seed).uniform(-0.5, 0.5, (n, n)), 1)
    return preference.game(0.5 + above - above.T, name=f"random {n} x {n}, seed {seed}")


def cycle(shares: tuple[float, float, float]) -> mmd.Game:
    """Each of three options beats the one before it with its share."""
    wins = np.full((3, 3), 0.5)
    for option, share in enumerate(shares):
        wins[(option + 1) % 3, option], wins[option, (option + 1) % 3] = share, 1 - share
    return preference.game(wins, name=f"3-cycle with shares {shares}")


def scaled(game: mmd.Game) -> mmd.Game:
    """The same game in units in which payoffs are at most 1/2."""
    rows, columns, values = game.payoff.entries()
    payoffs = np.zeros((game.row.n_sequences - 1, game.column.n_sequences - 1))
    payoffs[rows - 1, columns - 1] = values
    payoffs /= 2 * np.abs(payoffs).max()
    antisymmetric = payoffs.shape[0] == payoffs.shape[1] and np.array_equal(payoffs, -payoffs.T)
    return preference.game(0.5 + payoffs, name=game.name) if antisymmetric else matrix.game(payoffs, name=game.name)


def draws() -> dict[str, list[mmd.Game]]:
    """Every family of games, by name."""
    cycle = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
    losers = np.full((5, 5), 0.5)
    losers[:3, :3], losers[:3, 3:], losers[3:, :3] = cycle, [[0.6, 0.7]] * 3, [[0.4] * 3, [0.3] * 3]
    index = [0, 0, 1, 2, 2]
    found = {
        "random 10": [random_preference(10, seed) for seed in range(DRAWS)],
        "3-cycle": [games.load("preference:cycle")],
        "biased RPS": [scaled(matrix.game([[0, -1, 3], [1, 0, -1], [-3, 1, 0]], name="biased RPS"))],
        "no full support": [preference.game(losers, name="3-cycle above two losers")],
        "many equilibria": [preference.game(cycle[np.ix_(index, index)], name="3-cycle with doubles")],
    }
    found["random 100"] = [random_preference(100, seed) for seed in range(DRAWS)]
    if DATA.is_dir():
        bots = str(DATA / "games" / "rrps_bots_43.json")
        found |= {
            "Arena 17": [games.load(f"{DATA / 'llm' / 'chatbot_arena_20240329.json'}#subset=fully_observed_subset")],
            "Arena, cyclic 15": [games.load(str(DATA / "llm" / "chatbot_arena_cyclic_subset.json"))],
            "bots 43": [scaled(games.load(bots))],
            "bots 43, antisymmetrized": [scaled(games.load(f"{bots}#antisymmetrized"))],
        }
    return found


def chosen() -> dict[str, dict[str, Any]]:
    """The best setting of every method on the tuning games."""
    tuning = [*(random_preference(n, seed) for n, seed in TUNING_SEEDS.items()), cycle(TUNING_SHARES)]
    found = {}
    for name, makers in SEARCH.items():
        scores = np.zeros(len(makers))
        for game in tuning if len(makers) > 1 else ():
            cases = [(game, make()) for make in makers]
            ended = laboratory.run(cases, np.array([0, LIMIT // cost_of(cases)]), target=TARGET)
            gaps = np.fmin(ended.last[:, -1], ended.average[:, -1])
            scores += [
                np.log(n) if n > 0 else np.log(LIMIT * max(gap, TARGET) / TARGET)
                for n, gap in zip(ended.reached, gaps, strict=True)
            ]
        found[name] = {"index": int(np.nanargmin(scores)), "scores": scores}
        print(f"  {name}: {setting(makers[found[name]['index']])}", flush=True)
    return found


def cost_of(cases: list[laboratory.Case]) -> int:
    """Gradient evaluations of a step."""
    return getattr(cases[0][1], "evaluations", 1)


def rate(evaluations: np.ndarray, gaps: np.ndarray) -> dict[str, Any] | None:
    """How the gap falls: geometrically or as a power, whichever line fits better above 1e-12; its slope and R^2."""
    seen = (evaluations >= 30) & np.isfinite(gaps) & (gaps > 1e-12)
    if seen.sum() < 4:
        return None
    y, fits = np.log(gaps[seen]), []
    for kind, x in (("geometric", evaluations[seen].astype(float)), ("power", np.log(evaluations[seen]))):
        slope, offset = np.polyfit(x, y, 1)
        spread = np.sum((y - y.mean()) ** 2)
        fits.append((1 - np.sum((y - slope * x - offset) ** 2) / spread if spread > 0 else 0.0, kind, slope))
    best = max(fits)
    return {"kind": best[1], "slope": best[2], "r_squared": best[0]}


def at_evaluations(found: laboratory.Records, curve: np.ndarray, mark: int) -> np.ndarray:
    """A curve's last value of every case at no more than so many evaluations."""
    reached = [np.flatnonzero(work <= mark)[-1] for work in found.gradient_evaluations]
    return curve[np.arange(len(curve)), reached]


def measure(name: str, make: Maker, family: list[mmd.Game], *, wide: bool) -> dict[str, Any] | None:
    """One method on all draws of a family; None where it is not defined."""
    cases = [(game, make()) for game in family]
    try:
        cases[0][1].resolve(cases[0][0])
    except mmd.GameError:
        return None
    cost = cost_of(cases)
    ends = [(mark - extra) // cost for mark in MARKS for extra in (0, 1)]  # some spend an evaluation on the start
    records = laboratory.run(cases, np.unique([*laboratory.marks(MARKS[-1] // cost), *ends]), target=TARGET)
    fits = [rate(*pair) for pair in zip(records.gradient_evaluations, records.last, strict=True)]
    result: dict[str, Any] = {
        "evaluations_to_target": [int(n) if n != laboratory.NEVER else None for n in records.reached],
        "last": {mark: at_evaluations(records, records.last, mark) for mark in MARKS},
        "average": {mark: at_evaluations(records, records.average, mark) for mark in MARKS},
        "rate": fits,
        "preference_calls": records.preference_calls[:, -1],
    }
    if not wide:
        optimal = [[OptimalSet.of(game, player) for player in (0, 1)] for game in family]
        end = [[np.exp(log[c, -1, 1:]) for log in records.log_policy] for c in range(len(family))]
        result["kl_at_the_end"] = [
            sum(one.distance(x) for one, x in zip(sets, ends, strict=True))
            for sets, ends in zip(optimal, end, strict=True)
        ]
    return result


def by_restarted(family: list[mmd.Game], *, polish: bool) -> list[int | None]:
    """Gradient evaluations of `restarted` to the target, its polish counted, measured after every iteration."""
    taken = []
    for game in family:
        solution = mmd.solve(
            game, mmd.Restarted(), tolerance=TARGET / 2, max_iterations=LIMIT, polish=polish, check_every=1
        )
        taken.append(solution.gradient_evaluations if solution.converged else None)
    return taken


def race_on_the_cycle() -> dict[str, Any]:
    """Evaluations to NashConv 1e-10 on the 3-cycle, from uniform play and from (.6, .3, .1)."""
    game, found = games.load("preference:cycle"), {}
    for label, p in {"uniform": np.full(3, 1 / 3), "(.6, .3, .1)": np.array([0.6, 0.3, 0.1])}.items():
        log = np.log(np.concatenate([[1.0], p]))
        start = (log, log)
        begin = mmd.Policy.from_log(game, start)
        rows = {
            name: mmd.solve(
                game, mmd.Restarted(), tolerance=5e-11, start=begin, check_every=1, polish=polish
            ).gradient_evaluations
            for name, polish in POLISH.items()
        }
        omwu = [(game, algorithms.load("omwu")(eta=1.0))]
        rows["omwu, eta 1"] = int(laboratory.run(omwu, np.array([0, LIMIT]), start, target=1e-10).reached[0])
        found[label] = rows
    return found


def shares(results: dict[str, Any], engine: str) -> dict[str, Any]:
    """On how many draws an engine is first of mirror and magnet methods, and within 3x of the best of all; who won."""
    first = near = nearest = count = 0
    winners: dict[str, int] = {}
    for family in results.values():
        ours = family[engine]
        for draw, n in enumerate(ours):
            others = {m: r["evaluations_to_target"][draw] for m, r in family["methods"].items() if r}
            others = {m: v for m, v in others.items() if v is not None}
            rivals = [v for m, v in others.items() if m not in REGRET]
            count += 1
            first += n is not None and n <= min(rivals, default=np.inf)
            near += n is not None and n <= 3 * min(others.values(), default=np.inf)
            nearest += n is not None and n <= 1.1 * min(others.values(), default=np.inf)
            best = min(others, key=lambda m: others[m], default=engine)
            best = engine if n is not None and n <= others.get(best, np.inf) else best
            winners[best] = winners.get(best, 0) + 1
    near_shares = {"within_3x": near / count, "within_1.1x": nearest / count}
    return {"draws": count, "first": first / count, **near_shares, "best_of_all": winners}


def setting(maker: Maker) -> dict[str, Any]:
    """What was chosen, without what every method has."""
    known = describe(maker())
    hidden = {"name", "keeps_best", "feedback", "seed", "iterate", "adaptive", "averaging", "power", "inner"}
    plain = {k: v for k, v in known.items() if k not in hidden and v is not None}
    magnet = plain.pop("magnet", None)
    return plain | ({"every": magnet["every"]} if magnet and "every" in magnet else {})


def main() -> None:
    """Measure, store after every family, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", help="families to measure anew; the others are kept if stored")
    parser.add_argument("--page", action="store_true", help="only write the page from what is stored")
    arguments = parser.parse_args()
    path = RESULTS / "claims.json"
    stored = json.loads(path.read_text()) if path.exists() else {"games": {}}
    for name, family in {}.items() if arguments.page else draws().items():
        if "settings" not in stored:
            found = chosen()
            stored["settings"] = {m: one | {"algorithm": setting(SEARCH[m][one["index"]])} for m, one in found.items()}
            store("claims", stored)
        if "cycle" not in stored:
            stored["cycle"] = race_on_the_cycle()
        if name not in stored["games"] or name in (arguments.games or ()):
            stored["games"][name] = raced(name, family, stored["settings"])
            store("claims", stored)
    stored = json.loads(path.read_text())
    stored["shares"] = {engine: shares(stored["games"], engine) for engine in POLISH}
    store("claims", stored)
    PAGE.write_text(page(json.loads(path.read_text()), json.loads((RESULTS / "noise.json").read_text())))
    print(stored["shares"])


def raced(name: str, family: list[mmd.Game], settings: dict[str, Any]) -> dict[str, Any]:
    """Every method and `restarted` on all draws of a family."""
    methods = {}
    for m, makers in SEARCH.items():
        methods[m] = one = measure(m, makers[settings[m]["index"]], family, wide=len(family) > 1)
        reached = one and median(one["evaluations_to_target"])
        print(f"  {name}, {m}: {reached}", flush=True)
    ours = {name: by_restarted(family, polish=polish) for name, polish in POLISH.items()}
    return {**ours, "methods": methods, "environment": environment()}


if __name__ == "__main__":
    main()
