"""docs/benchmarks/claims.md: what `benchmarks.claims.run` stored, as tables."""

from typing import Any

import numpy as np

TARGET = 1e-6
MARKS = (100, 1_000, 10_000)
LIMIT = 10_000  # gradient evaluations to the target
RESTARTED, PLAIN = "restarted", "restarted, no polish"
# Policies of the size of the model that are held at once: the one that trains and what its update refers to.
COPIES = {
    "self-play": "1",
    "online-ipo": "2",
    "iterative-dpo": "1",
    "nash-md": "2",
    "inpo": "2",
    "onpo": "2",
    "omwu": "2",
    "egpo": "3",
    "comal": "2",
    "mpo": "2",
    "gabp": "3",
    "asymmetric": "2",
    "halpern": "2",
}
TARGETS = {
    "self-play": "original, average",
    "online-ipo": "regularized, last",
    "iterative-dpo": "none",
    "nash-md": "regularized, last",
    "inpo": "regularized, last",
    "onpo": "original, average",
    "omwu": "original, last",
    "egpo": "regularized, last",
    "comal": "original, last",
    "mpo": "original, last",
    "gabp": "original, last",
    "asymmetric": "original, last",
    "halpern": "original, last",
    "optimistic": "original, last",
    "extragradient": "original, last",
    "averaged": "original, average",
    "anchored": "original, last",
    "cfr+": "original, average",
    "pcfr+": "original, average",
    "pdcfr+": "original, average",
}


def median(values: list[Any]) -> str:
    """Median of counts, unreached ones counted as infinite."""
    middle = float(np.median([np.inf if v is None else v for v in values]))
    return f"{middle:,.0f}" if np.isfinite(middle) else f"> {LIMIT:,}"


def gap(values: list[Any]) -> str:
    """Median of gaps."""
    numbers = [np.nan if v is None else v for v in values]
    return "-" if np.isnan(numbers).all() else f"{np.nanmedian(numbers):.1e}"


def fitted(fits: list[Any]) -> str:
    """The rate of the first draw."""
    fit = fits[0]
    if fit is None:
        return "-"
    what = f"e^({fit['slope']:.1e} n)" if fit["kind"] == "geometric" else f"n^{fit['slope']:.2f}"
    return f"{what}, {fit['r_squared']:.2f}"


def noise_lines(noise: dict[str, Any]) -> list[str]:
    """The section about sampled feedback."""
    lines = [
        "",
        "## With sampled feedback",
        "",
        f"By `python -m benchmarks.claims.noise` (`noise.json`): one sampled opponent for each player and evaluation, "
        f"{noise['iterations']:,} evaluations,",
        f"{noise['seeds']} seeds, nine settings a method searched on another game. NashConv of the last iterate (mean "
        "over the last factor 3 of",
        "samples) and of the average one, medians over seeds; the slope of log gap against log samples, and its R^2.",
    ]
    for label in next(iter(noise["results"].values()))["games"]:
        lines += ["", f"### {label}", "", "| method | setting | last | average | slope | R^2 |"]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        rows = sorted((one["games"][label]["gap_at_the_end"], name) for name, one in noise["results"].items())
        for _, name in rows:
            one = noise["results"][name]
            found, numbers = one["games"][label], ", ".join(f"{k} {v}" for k, v in one["setting"].items())
            ends = f"{found['gap_at_the_end']:.1e} | {found['average_gap_at_the_end']:.1e}"
            lines.append(f"| {name} | {numbers} | {ends} | {found['slope']:.2f} | {found['r_squared']:.2f} |")
    return lines


def page(stored: dict[str, Any], noise: dict[str, Any]) -> str:
    """The documentation page of the stored numbers."""
    lines = [
        "# Claims, measured",
        "",
        "Written by `python -m benchmarks.claims.run --page` from `benchmarks/results/claims.json`; a test "
        "keeps the two",
        "equal. Exact feedback, NashConv, payoffs of at most 1/2, starts at uniform play; medians over the draws of a",
        "family, but the rate, which is the first draw's. Every method has the setting that was best on three tuning",
        "games, out of nine: what won there can fail elsewhere, and then the table says so. `mpo` is its form with",
        "constant steps; its two loops, which need no setting, are [measured apart](two-loops.md).",
        "",
        "## Shares",
        "",
        f"Gradient evaluations to {TARGET:.0e}, draw by draw (mirror and magnet methods are all but regret matching):",
        "",
        "| engine | draws | first of mirror and magnet methods | within 3x of the best of all | within 1.1x "
        "| best of all, draws |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for engine, share in stored["shares"].items():
        best = ", ".join(f"{m} {n}" for m, n in sorted(share["best_of_all"].items(), key=lambda one: -one[1]))
        parts = " | ".join(f"{share[part]:.0%}" for part in ("first", "within_3x", "within_1.1x"))
        lines.append(f"| {engine} | {share['draws']} | {parts} | {best} |")
    lines += [
        "",
        "To 1e-10 on the 3-cycle, evaluations:",
        "",
        "| start | " + " | ".join(next(iter(stored["cycle"].values()))) + " |",
        "| --- | --- | --- | --- |",
    ]
    for start, rows in stored["cycle"].items():
        lines.append(f"| {start} | " + " | ".join("-" if n is None else f"{n:,}" for n in rows.values()) + " |")
    for name, family in stored["games"].items():
        lines += ["", f"## {name}", ""]
        if len(family[RESTARTED]) > 1:
            lines += [f"{len(family[RESTARTED])} draws.", ""]
        lines += [
            f"`restarted` takes {median(family[RESTARTED])} evaluations to {TARGET:.0e}, "
            f"unpolished {median(family[PLAIN])}.",
            "",
            "| method | target, iterate | to 1e-6 | last @1e2 | @1e3 | @1e4 | average @1e4 | rate of last, R^2 "
            "| KL at 1e4 | copies | preference calls |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for m, r in family["methods"].items():
            if r is None:
                lines.append(f"| {m} | not defined on this game | | | | | | | | | |")
                continue
            kl = gap(r["kl_at_the_end"]) if "kl_at_the_end" in r else "-"
            cells = [m, TARGETS[m], median(r["evaluations_to_target"])]
            cells += [gap(r["last"][str(mark)]) for mark in MARKS]
            cells += [gap(r["average"][str(MARKS[-1])]), fitted(r["rate"]), kl, COPIES.get(m, "a table")]
            lines.append("| " + " | ".join([*cells, median(r["preference_calls"])]) + " |")
    lines += ["", "## Settings", "", "| method | setting |", "| --- | --- |"]
    for m, one in stored["settings"].items():
        numbers = ", ".join(f"{k} {v}" for k, v in one["algorithm"].items())
        lines.append(f"| {m} | {numbers or 'none to choose'} |")
    return "\n".join([*lines, *noise_lines(noise)]) + "\n"
