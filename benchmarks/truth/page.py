"""docs/benchmarks/preference-optimization.md and its figures: what `benchmarks.truth.run` and `.styles` stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth.settings import FIXED_MAGNET, FROZEN, METHODS, TUNING
from mmd.host.drawing import COLORS

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "preference-optimization.md"
PALE = "#F0E442"  # too pale for a thin line on white
STYLES = {"plain": "tab:blue", "polite": "tab:orange", "loud": "tab:green"}
COLLAPSED, FLOOR, WANTED = 0.1, 0.005, 5
REPLAY, SPREAD, TUNED = "mpo replay", "mpo spread", "mpo spread, tuned"
BARS = {"cycle": 0.02, "rand8": 0.015, "mixed8": 0.015}
EXACT_BARS = {"cycle": 1e-4, "rand8": 3e-4}
KINDS = ("last", "exported", "average")
Entry = dict[str, Any]
Entries = Sequence[Entry]


def judged(entry: Entry) -> float:
    """Median gap of the better of what the method exports and the moving average of its weights."""
    return min(entry["exported"]["median"], entry["average"]["median"])


def _score(entries: Entries) -> float:
    return float(np.prod([judged(one) for one in _on(entries, TUNING)]))


def chosen(entries: Entries) -> dict[str, list[Entry]]:
    """The entries of each method's frozen setting, by name; a method that was not tuned on both games is not there."""
    found = {}
    for name in METHODS["sampled"]:
        settings: dict[str, list[Entry]] = {}
        for one in entries:
            if one["mode"] == "sampled" and one["name"] == name:
                settings.setdefault(str(one["setting"]), []).append(one)
        if tuned := [ones for ones in settings.values() if len(_on(ones, TUNING)) == len(TUNING)]:
            found[name] = min(tuned, key=_score)
    return found


def _on(entries: Entries, games: Sequence[str]) -> list[Entry]:
    return [one for one in entries if one["game"] in games]


def page(truth: dict[str, Any], styles: dict[str, Any]) -> str:
    """The page."""
    entries = list(truth["results"].values())
    best, starts = chosen(entries), [one["last"]["course"][0] for one in entries]
    lines = [
        "# Preference optimization where the truth is known",
        "",
        "Written by `python -m benchmarks.truth.run --page` from `benchmarks/results/truth.json` and `styles.json`; "
        "a test",
        "keeps them equal. All gaps are duality gaps, twice the exploitability, computed exactly by enumeration;",
        f"untrained policies have {min(starts):.2f} to {max(starts):.2f}. Decoders of 21,000 weights are trained by",
        "the package's own methods on games between 64 or 85 short responses that no reward explains",
        "(`benchmarks/truth/games.py`).",
        "",
        *_exact(entries),
        *_sampled(best),
        *_mix(best),
        *_tuning(entries),
        *_noise(entries, best),
        *_styles(styles),
    ]
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = [header, ["---"] * len(header), *rows]
    return ["", *("| " + " | ".join(row) + " |" for row in body), ""]


def _ends(entry: Entry, kind: str) -> str:
    ends = entry[kind]["end"]
    return f"{entry[kind]['median']:.2g} [{min(ends):.2g}, {max(ends):.2g}]"


def _exact(entries: Entries) -> list[str]:
    rows = []
    for one in entries:
        if one["mode"] == "exact":
            setting, bar = one["setting"][0], EXACT_BARS[one["game"].split("/")[0]]
            met = "met" if one["last"]["median"] <= bar else "missed"
            rows.append([one["game"], one["name"], str(setting["eta"]), _ends(one, "last"), f"{bar:.0e}, {met}"])
    return [
        "## With exact expectations",
        "",
        "500 rounds of 8 steps, alpha 0.1, a magnet copied every 10 rounds: the last iterate, median of 5 seeds",
        "[least, largest].",
        *_table(("game", "form of the update", "eta", "gap", "bar"), rows),
    ]


def _sampled(best: dict[str, list[Entry]]) -> list[str]:
    games = sorted({one["game"] for ones in best.values() for one in ones if not one["game"].startswith("mix/")})
    lines = [
        "## With 32,000 samples a prompt",
        "",
        "500 rounds of 64 responses; methods with two samplers halve the groups. Each method has the best of at most",
        "four settings on `cycle/0` and `rand8/0`, frozen for the other games, which were drawn afresh. Median of 5",
        "seeds, of the better of what a method exports (the magnet where it is an average, otherwise the last iterate)",
        "and one moving",
        "average of the weights, the same for all methods; in brackets the least and the largest. `a` says that the",
        "average was the better one. The third setting of MPO and those of `mpo replay` came out of the study of the",
        "noise on the same two games, which is printed below. `mpo replay` is `bridge.MPO` with `replay=15`: a round",
        "learns from the responses of the last 16 rounds, weighed by importance, and from the verdicts that they have.",
        "A step takes 16 times the forward passes, a round no more samples and comparisons.",
        "More was tried for `mpo replay` than for the others: 17 settings on the two tuning games. Of the first 16, of",
        "which one was stopped early, four were chosen after their results were seen. The seventeenth, after nine",
        "other games had been seen, was worse and was dropped. So its row is chosen from more than the rivals' rows.",
        f"`{SPREAD}` is `mpo` with the setting that is frozen for it and `spread_draws=True`: responses of a group are",
        f"spread evenly, in two halves that are compared with each other. `{TUNED}` has settings of its own. They",
        "were chosen after three ways to spread had been compared on the two tuning games, five settings with draws",
        f"and five with exact expectations. When `{TUNED}` had been run on all games, three of its seeds had",
        f"collapsed. So `{SPREAD}` was added, which needed no choice, and was committed before it was run.",
        *_comparisons(),
    ]
    rows = [[name, *(_better(_on(best[name], (game,))) for game in games)] for name in best]
    lines += _table(("method", *games), rows)
    absent = {
        game: [name for name in METHODS["sampled"] if not _on(best.get(name, ()), (game,))]
        for game in (*TUNING, *FROZEN)
    }
    for game, names in absent.items():
        if names:
            which = "any method" if len(names) == len(METHODS["sampled"]) else ", ".join(names)
            lines.append(f"* `{game}` has not been run with {which}.")
    return [*lines, "", *_verdict(best, games)]


def _better(found: Entries) -> str:
    if not found:
        return "not run"
    kind = min(("exported", "average"), key=lambda kind: found[0][kind]["median"])
    return f"{_ends(found[0], kind)}{' a' if kind == 'average' else ''}"


def _verdict(best: dict[str, list[Entry]], games: Sequence[str]) -> list[str]:
    lines = [
        "What MPO exports, its magnet, and the best method with a fixed magnet; `classes` is how many kinds of",
        "responses the equilibrium mixes. Where `classes` is 1, one kind of response wins against every other kind.",
    ]
    rows, factors = [], []
    for game in games:
        ours = _on(best["mpo"], (game,))
        rivals = {name: _on(best[name], (game,)) for name in FIXED_MAGNET if name in best}
        rivals = {name: ones[0] for name, ones in rivals.items() if ones}
        if not ours or len(rivals) < len(FIXED_MAGNET):
            continue
        rival, one = min(rivals.items(), key=lambda pair: judged(pair[1]))
        bar = BARS[game.split("/")[0]]
        exported = ours[0]["exported"]["median"]
        factors.append(judged(one) / judged(ours[0]))
        met = "met" if exported <= bar else "missed"
        support = str(ours[0]["supports"][0])
        rows.append([game, support, _ends(ours[0], "exported"), f"{bar}, {met}", f"{rival} {judged(one):.2g}"])
        others = [_on(best.get(name, ()), (game,)) for name in (REPLAY, SPREAD, TUNED)]
        rows[-1] += [f"{factors[-1]:.1f}", *(_ends(one[0], "exported") if one else "not run" for one in others)]
    exported = (f"{name}, exported" for name in (REPLAY, SPREAD, TUNED))
    last = ("best fixed magnet", "factor to MPO's better one", *exported)
    lines += _table(("game", "classes", "exported", "bar", *last), rows)
    ends = np.concatenate([one["exported"]["end"] for one in _on(best["mpo"], games)])
    frozen = [one for game, one in zip([row[0] for row in rows], factors, strict=True) if not game.endswith("/0")]
    lines.append(f"Of {len(ends)} seeds of MPO {int((ends > COLLAPSED).sum())} ended above {COLLAPSED}.")
    if frozen:
        lines.append(
            f"On the {len(frozen)} games that nothing was tuned on, the factor is {min(frozen):.1f} to "
            f"{max(frozen):.1f}, {np.median(frozen):.1f} in the median; at least 1.5 on "
            f"{sum(factor >= 1.5 for factor in frozen)} of them."
        )
    plain, replayed, *even = (_on(best.get(name, ()), games) for name in ("mpo", REPLAY, SPREAD, TUNED))
    lines += _of_setting("Replay", replayed, plain, "for 16 times the forward passes. It is off by default.")
    if replayed:
        lines += [
            "A warm-up of 16 rounds, in which the memory fills, was tried after the other games had been run; it ended",
            "higher on the games of the tuning, so the setting stayed.",
        ]
    for what, entries in zip(("Spread draws", "Spread draws, tuned"), even, strict=True):
        lines += _of_setting(what, entries, plain, "for half the comparisons and no more forward passes.")
    return [*lines, "", "![median gaps](preference-optimization.svg)", ""]


def _of_setting(what: str, entries: Entries, plain: Entries, cost: str) -> list[str]:
    """What one setting of a method reaches on all games, and what it does not; `plain` is MPO."""
    if not entries:
        return []
    low = [one["game"] for one in entries if one["exported"]["median"] <= FLOOR]
    ends = {one["game"]: max(one["exported"]["end"]) for one in entries}
    over = [one["game"] for one in entries if one["exported"]["median"] > BARS[one["game"].split("/")[0]]]
    n_seeds = sum(len(one["exported"]["end"]) for one in entries)
    n_collapsed = sum(end > COLLAPSED for one in entries for end in one["exported"]["end"])
    worst = max(ends, key=lambda game: ends[game])
    without = {one["game"]: one["exported"]["median"] for one in plain}
    ratios = [one["exported"]["median"] / without[one["game"]] for one in entries]
    listed = f": {', '.join(f'`{game}`' for game in low)}" if low else ""
    missed = f"misses its bar on {', '.join(f'`{game}`' for game in over)}" if over else "is within the bar on all"
    return [
        "",
        f"*{what}, one setting on all games.* The aim was an export of at most {FLOOR} on {WANTED} games, none of the",
        f"seeds above {COLLAPSED}, and every bar. `{entries[0]['name']}` ({_words(entries[0]['setting'][0])})",
        f"exports at most {FLOOR} on {len(low)} of {len(entries)} games{listed}. It {missed}.",
        f"Of its {n_seeds} seeds {n_collapsed} ended above {COLLAPSED}; the largest is {ends[worst]:.2g},",
        f"on `{worst}`. Its exports are below those of `mpo` on {sum(r < 1 for r in ratios)} games, and",
        f"{np.median(ratios):.2g} times as large in the median, {cost}",
    ]


def _comparisons() -> list[str]:
    """How many pairs are compared for one prompt in 500 rounds of 64 responses, equal responses included."""
    whole, half, rounds = 64, 32, 500
    own = {"whole": whole * (whole - 1) // 2, "half": half * (half - 1) // 2}
    pairs = {
        "all methods but these": own["whole"],
        "`nash-md`": half * half,
        "`egpo`": own["half"] + half * half,
        "`optimistic`": own["whole"] + whole * whole,
        f"`{SPREAD}`, tuned or not,": half * half,
    }
    listed = "; ".join(f"{name} {n * rounds:,}" for name, n in pairs.items())
    return ["", f"Pairs that are compared, a prompt: {listed}."]


def exported_within(truth: dict[str, Any]) -> tuple[int, int]:
    """On how many games what MPO exports is within the bar, and on how many it was run."""
    ours = chosen(list(truth["results"].values()))["mpo"]
    ours = [one for one in ours if one["game"].split("/")[0] in BARS]
    return sum(one["exported"]["median"] <= BARS[one["game"].split("/")[0]] for one in ours), len(ours)


def distance(styles: dict[str, Any], name: str, kind: str) -> float:
    """The largest distance of a style's frequency from the equilibrium, at the end."""
    shares = np.array(styles["results"][name][kind][-1])
    return float(np.abs(shares[:3] - styles["equilibrium"]).max())


def _mix(best: dict[str, list[Entry]]) -> list[str]:
    found = {name: _on(ones, ("mix/0",)) for name, ones in best.items()}
    rows = [
        [name, *(f"{gap:.2g}" for gap in ones[0][kind]["by_prompt"]), _ends(ones[0], kind)]
        for name, ones in found.items()
        if ones
        for kind in ("exported", "average")
        if ones[0][kind]["median"] == judged(ones[0])
    ]
    if not rows:
        return ["## Four games at once", "", "`mix/0` has not been run.", ""]
    return [
        "## Four games at once",
        "",
        "`mix/0` has four prompts with a game each, responses of one to three tokens and an end; settings as above,",
        "the better of what is exported and the average. It was not screened as the others were; no bar is set for it.",
        *_table(("method", "3-cycle", "5 classes", "9 classes", "7 classes", "mean"), rows),
    ]


def _tuning(entries: Entries) -> list[str]:
    rows = []
    for one in entries:
        if one["mode"] == "sampled" and one["game"] == "cycle/0":
            other = [
                two
                for two in entries
                if two["mode"] == "sampled"
                and (two["game"], two["name"], two["setting"]) == ("rand8/0", one["name"], one["setting"])
            ]
            cells = [f"{x[kind]['median']:.2g}" for x in (one, *other) for kind in KINDS]
            rows.append([one["name"], _words(one["setting"][0]), *cells])
    header = ("method", "setting", *(f"{game} {kind}" for game in TUNING for kind in KINDS))
    ours = [one for one in entries if one["mode"] == "sampled" and one["name"] in ("mpo", "mpo regression")]
    pairs = [one for one in ours if one["setting"][0]["magnet"].startswith("MovingAverage")]
    least = sum(one["exported"]["median"] <= one["last"]["median"] for one in pairs)
    return [
        "## All settings on the games of the tuning",
        "",
        f"Medians of 5 seeds. Of MPO's {len(pairs)} rows whose magnet is an average, here and above, the exported",
        f"magnet is at or below the last iterate in {least}. With `Refresh` the last iterate is exported.",
        *_table(header, rows),
    ]


def _words(setting: dict[str, Any]) -> str:
    magnet = setting.get("magnet", "")
    for unsaid in ("center='dilated', ", "center='dilated'", ", power=None"):
        magnet = magnet.replace(unsaid, "")
    numbers = [*(["eta"] if setting["epochs"] > 1 else []), *(["alpha"] if magnet else []), "learning_rate"]
    parts = [f"{name.replace('learning_', '')} {setting[name]}" for name in numbers]
    parts += [f"{name.partition('_')[0]} {setting[name]}" for name in ("replay", "warmup_rounds") if name in setting]
    return ", ".join([*parts, *([magnet.split(", residual")[0].rstrip(")") + ")"] if magnet else [])])


def _noise(entries: Entries, best: dict[str, list[Entry]]) -> list[str]:
    tried: dict[str, dict[str, Entry]] = {}
    for one in [*best["mpo"], *entries]:
        if one["mode"] == "noise" or one in best["mpo"]:
            name = one["name"] if one["mode"] == "noise" else "as above"
            tried.setdefault(name, {})[one["game"]] = one
    kinds = ("exported", "average", "tail")
    rows = [
        [name, *(_ends(ones[game], kind) for game in TUNING for kind in kinds)]
        for name, ones in tried.items()
        if all(game in ones for game in TUNING)
    ]
    header = ("what", *(f"{game} {kind}" for game in TUNING for kind in kinds))
    return [
        "## Below the floor of the noise",
        "",
        "What was tried on the two games of the tuning to end lower with the same 32,000 samples; the aim was 0.005.",
        "`tail` is the mean of the weights since the middle of the run. The first row is MPO's setting above. Others",
        "have eta 0.4 and a magnet of rate 0.025 where nothing else is said. With replay the magnet's rate is",
        "eta alpha / 1.6, alpha 0.1 where nothing else is said; groups of 128 and 256 have 8 and 16 steps a round.",
        *_table(header, rows),
        *(_least(tried, game) for game in TUNING),
        "",
        "Why replay does not end much lower (reckoned, not measured): an export averages over the last third to half",
        "of the run, 12,000 responses or so. A win rate against so many draws is known to about 0.35 / sqrt(12,000) =",
        "0.003, and the gap is twice the largest of several such errors. Replay uses responses again and adds none.",
        "",
    ]


def _least(tried: dict[str, dict[str, Entry]], game: str) -> str:
    kinds = ("exported", "average", "tail")
    found = [(ones[game][kind]["median"], name, kind) for name, ones in tried.items() for kind in kinds]
    gap, name, kind = min(found)
    return f'* On `{game}` the least median is {gap:.2g}, by "{name}" ({kind}).'


def _styles(styles: dict[str, Any]) -> list[str]:
    rows = []
    for name, one in styles["results"].items():
        for kind in ("last", "exported") if name == "mpo" else ("last", "average"):
            shares = np.array(one[kind][-1])
            away = distance(styles, name, kind)
            late = np.array(one[kind][-10:])[:, :3]
            moving = np.abs(late - late.mean(axis=0)).max()
            rows.append([name, kind, *(f"{share:.3f}" for share in shares), f"{away:.3f}", f"{moving:.3f}"])
    start = ", ".join(f"{share:.2f}" for share in styles["start"][:3])
    return [
        "## Three styles of a language model",
        "",
        "By `python -m benchmarks.truth.styles`: a small Llama, taught by SFT to answer questions in a plain, "
        "a polite or a",
        f"loud style (frequencies {start}), meets a judge that reads text and prefers the styles in a circle;",
        "the equilibrium is (4, 3, 4) / 11 = 0.364, 0.273, 0.364. Answers in no style lose to all that are in one.",
        f"Frequencies on held-out prompts after {styles['rounds']} rounds of 8 prompts and 16 responses; the largest",
        "distance of a style from the equilibrium, and how far the frequencies moved from their mean since 10 marks.",
        *_table(("method", "weights", "plain", "polite", "loud", "none", "distance", "movement"), rows),
        "![frequencies of the styles](preference-styles.svg)",
        "",
        "Solid lines are the weights that a method exports: an average for MPO, the last weights for the others.",
    ]


def write(truth: dict[str, Any], styles: dict[str, Any]) -> None:
    """The page and its two figures."""
    PAGE.write_text(page(truth, styles), "utf-8")
    draw(truth)
    draw_styles(styles)


def draw(truth: dict[str, Any]) -> None:
    """Median gap against samples, a panel for each family of games."""
    pyplot = _pyplot()
    best = chosen(list(truth["results"].values()))
    of_family = {"cycle": ("cycle/",), "rand8": ("rand8/", "mixed8/"), "mix": ("mix/",)}
    run = {one["game"] for ones in best.values() for one in ones}
    shown = [family for family, names in of_family.items() if any(game.startswith(names) for game in run)]
    figure, panels = pyplot.subplots(1, len(shown), figsize=(2.7 * len(shown), 4.4), layout="constrained", sharey=True)
    looks = _looks(list(best))
    for axes, family in zip(panels, shown, strict=True):
        families = of_family[family]
        for name, ones in best.items():
            found = [one for one in ones if one["game"].startswith(families)]
            if not found:
                continue
            kind = min(("last", "average"), key=lambda kind: np.median([one[kind]["median"] for one in found]))
            course = np.median([one[kind]["course"] for one in found], axis=0)
            axes.plot(np.arange(len(course)) * 640, course, **looks[name])
        n_games = sum(game.startswith(families) for game in run)
        axes.set(yscale="log", xlabel="samples a prompt", title=f"{family}, {n_games} game{'s' * (n_games != 1)}")
        axes.set_xticks(range(0, 30_001, 10_000), ["0", "10,000", "20,000", "30,000"])
        axes.grid(visible=True, alpha=0.3)
    named = {line.get_label(): line for axes in panels for line in axes.get_lines()}
    figure.legend(handles=[named[name] for name in looks if name in named], ncols=4, loc="outside lower center")
    panels[0].set_ylabel("duality gap, median")
    figure.savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})
    pyplot.close(figure)


def _looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How each method is drawn, the same in every panel: MPO thick, its variants dashed, fixed magnets solid."""
    found: dict[str, dict[str, Any]] = {}
    for style, kind in (
        ("-", [name for name in names if name in FIXED_MAGNET]),
        ("--", [name for name in names if name.startswith("mpo ")]),
        (":", [name for name in names if name not in FIXED_MAGNET and not name.startswith("mpo")]),
    ):
        colors = (color for color in COLORS if color != PALE)
        found |= {
            name: {"label": name, "linestyle": style, "color": color, "linewidth": 1.4}
            for name, color in zip(kind, colors, strict=False)
        }
    return {"mpo": {"label": "mpo", "color": "black", "linewidth": 2.6}} | found


def draw_styles(styles: dict[str, Any]) -> None:
    """Frequencies of the styles against rounds, a panel for each method; all but MPO export the last weights."""
    pyplot, results = _pyplot(), styles["results"]
    figure, grid = pyplot.subplots(-(-len(results) // 2), 2, figsize=(5.6, 7.6), layout="constrained", sharey=True)
    panels = grid.ravel()
    for axes, (name, one) in zip(panels, results.items(), strict=False):
        for i, (style, color) in enumerate(STYLES.items()):
            for kind, look in (("last", ":"), ("exported", "-")) if name == "mpo" else (("last", "-"),):
                axes.plot(one["round"], np.array(one[kind])[:, i], look, color=color, label=f"{style}, {kind} weights")
            axes.axhline(styles["equilibrium"][i], color=color, linewidth=0.7, alpha=0.6, label=f"{style}, equilibrium")
        axes.set(title=name, xlabel="round", ylim=(0, 1))
    named = panels[list(results).index("mpo")].get_lines()
    for axes in panels[len(results) :]:
        axes.set_axis_off()
        axes.legend(handles=named, loc="center", frameon=False)
    for axes in grid[:, 0]:
        axes.set_ylabel("frequency, held-out prompts")
    figure.savefig(PAGE.with_name("preference-styles.svg"), metadata={"Date": None})
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "magnetic-mirror"
    from matplotlib import pyplot

    return pyplot
