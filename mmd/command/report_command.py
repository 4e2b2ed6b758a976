"""`mmd report`: runs side by side on one page. It reads their folders alone: no game, and no algorithm's code."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmd.command import named_policy
from mmd.command.named_policy import NamedPlayer
from mmd.command.options import Report
from mmd.host import environment
from mmd.host.files import is_number
from mmd.measure import run_directory
from mmd.measure.figure import IN_DOUBLES, RETURNED, SIGNED, X_AXES, X_LABELS, Y_LABELS, Curve, drawn_iterate
from mmd.measure.plot import curve_of
from mmd.measure.run_directory import RECORDING, RunError, load_result
from mmd.report import page
from mmd.report.blocks import Badge, Bar, Cell, Facts, Text, flat, plain, side_by_side
from mmd.report.interactive import Axis, Chart, Level, Line, Player, Policies
from mmd.report.page import Block, Page, Section

MOST_INFOSETS = 50_000  # of a player on a page
MOST_OPTIONS = 50  # of a lottery
OF_MPO = ("metrics.jsonl", "eval.json", "exploit.json", "verdicts.jsonl")
TYPES: dict[str, tuple[type, ...]] = {
    "game": (str,),
    "algorithm": (dict,),
    "iterate": (str,),
}
NUMBERS = ("payoff_range", "tolerance", "exploitability", "proven_factor")  # or null
CERTIFICATE = (
    "The exploitability is that of the policy of the run, NashConv / 2: half of what both players together would gain "
    "by best responses. It was computed in float64 from those responses, by code that the solver does not share; "
    "mmd verify SPEC RUN computes it again. A run has converged if the exploitability is at most the tolerance."
)


class Run(NamedTuple):
    """What is shown of a run.

    Attributes:
        label: how the page calls it.
        known: `result.json`, or `recording.json`.
        environment: `environment.json`; empty where there is none.
        curve: its trace.
        policy: by names; empty for a recording.
    """

    label: str
    known: Mapping[str, Any]
    environment: Mapping[str, Any]
    curve: Curve
    policy: Sequence[NamedPlayer]


def run(options: Report, say: Callable[[Iterable[str]], None]) -> None:
    """Write the page.

    Raises:
        RunError: a folder is no run that has ended, or is damaged.
        OutputError: the page cannot be written.
    """
    if not options.runs:
        raise RunError("expected at least one run directory, as mmd solve --out writes them")
    page.prepare(options.out)
    runs = [_read(folder, label) for label, folder in page.labelled(options.runs).items()]
    page.write(page_of(runs), options.out)
    say([f"wrote {options.out}"])


def page_of(runs: Sequence[Run]) -> Page:
    """The page of runs."""
    games = list(dict.fromkeys(run.curve.game for run in runs))
    title = ", ".join(games[:3]) + (f" and {len(games) - 3} more games" if len(games) > 3 else "")
    solved = [run.known["converged"] for run in runs if isinstance(run.known.get("converged"), bool)]
    many = f"{len(runs)} runs" if len(runs) > 1 else f"run {runs[0].label}"
    ended = f", {sum(solved)} of {len(solved)} converged" if len(solved) > 1 else ""
    policies = [*_lotteries(runs), *_policies(runs)]
    sections = (
        Section("Summary", [_summary(runs), Text([CERTIFICATE])]),
        Section("Convergence", [_convergence(runs)]),
        Section("Policy", policies),
        Section("Settings", [_settings(runs)]),
    )
    version = environment.versions(())[environment.DISTRIBUTION] or "of a checkout"
    return Page(title, f"{many}{ended}", sections, f"mmd report, magnetic-mirror {version}")


# ------------------------------------------------------------------------------------------------ reading


def _read(folder: Path, label: str) -> Run:
    recorded = (folder / RECORDING).is_file()
    _check_kind(folder)
    known = load_result(folder, RECORDING if recorded else "result.json")
    for name in (*TYPES, *NUMBERS):
        value = known.get(name)
        right = value is None or is_number(value) if name in NUMBERS else isinstance(value, TYPES[name])
        if name in known and not right:
            raise RunError(f"{folder}: expected {name!r} of another type, got {known[name]!r:.60}")
    policy = [] if recorded else named_policy.read(folder, MOST_INFOSETS)
    return Run(label, known, _environment(folder), curve_of(folder), policy)


def _check_kind(folder: Path) -> None:
    """Say what a folder is that is not a run which has ended."""
    if not folder.is_dir() or any((folder / name).is_file() for name in ("result.json", RECORDING)):
        if any((folder / name).is_file() for name in OF_MPO):
            raise RunError(f"{folder}: holds a run of mpo, which mpo report shows")
        return
    if any((folder / name).is_file() for name in OF_MPO):
        raise RunError(f"{folder}: holds a run of mpo, which mpo report shows")
    if (folder / run_directory.CHECKPOINT).is_file():
        raise RunError(
            f"{folder}: the run has not ended, it has a {run_directory.CHECKPOINT} and no result.json; "
            "the command that began it goes on with it if --resume is added"
        )


def _environment(folder: Path) -> Mapping[str, Any]:
    path = folder / "environment.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: expected JSON ({error})") from None
    return content if isinstance(content, dict) else {}


# ------------------------------------------------------------------------------------------------ facts


def _summary(runs: Sequence[Run]) -> Facts:
    return side_by_side("What was found", {run.label: _found(run) for run in runs})


def _found(run: Run) -> dict[str, Cell]:
    known, seconds = run.known, run.known.get("seconds")
    seconds = seconds if isinstance(seconds, dict) else {}
    facts: dict[str, Cell] = {"game": run.curve.game, "method": run.curve.method}
    if "converged" in known:
        facts["result"] = Badge("converged", "good") if known["converged"] is True else Badge("not converged", "bad")
        facts["how it ended"] = plain(known.get("status"))
    facts |= {"iterate": run.curve.iterate}
    names = {
        "exploitability": "exploitability (NashConv / 2)",
        "nash_conv": "NashConv",
        "tolerance": "tolerance",
        "regularized_gap": "regularized gap",
        "value": "value",
        "iterations": "iterations",
        "gradient_evaluations": "gradient evaluations",
        "reference": "KL is measured from",
        "rows": "rows",
    }
    facts |= {shown: plain(known[name]) for name, shown in names.items() if known.get(name) is not None}
    if is_number(known.get("value")):
        facts["value"] = f"{known['value']:.10g}"  # more digits than other numbers: it may be known to as many
    phases = {"solve": "seconds of solving", "compile": "seconds of compiling"}
    facts |= {shown: plain(seconds[name]) for name, shown in phases.items() if name in seconds}
    return facts


def _settings(runs: Sequence[Run]) -> Facts:
    """What a run was given, and where it ran."""
    found = {}
    for run in runs:
        kept = {name: run.known[name] for name in ("payoff_range", "dtype") if name in run.known}
        about = {name: value for name, value in run.environment.items() if name != "dtype"}
        found[run.label] = dict(flat(run.curve.algorithm)) | dict(flat(kept)) | dict(flat(about))
    return side_by_side("Settings and environment", found, compared=True)


# ------------------------------------------------------------------------------------------------ curves


def _convergence(runs: Sequence[Run]) -> Block:
    curves = [run.curve for run in runs]
    there = {name for curve in curves for name, held in curve.trace.items() if np.isfinite(held).any()}
    order = ["gradient_evaluations", "iterations", "seconds"]
    xs = [Axis(X_AXES[name], X_LABELS[name]) for name in order if X_AXES[name] in there]
    names = [name for name in Y_LABELS if name in there]
    if "kl" in there and all("kl" in run.curve.trace for run in runs):
        names.sort(key=lambda name: name != "kl")
    ys = [Axis(name, Y_LABELS[name], log=name not in SIGNED) for name in names]
    if not (xs and ys):
        return Text(["No check was recorded, so there is no curve."])
    lines = [line for i, run in enumerate(runs) for line in _lines(run, i)]
    note = (
        "A curve is the run's own policy at each check, before any polish. Values below the rounding floor of float64, "
        "eps times the payoff range, are drawn on it."
    )
    return Chart("Distance from equilibrium", xs, ys, lines, _levels(runs), note)


def _lines(run: Run, i: int) -> Iterator[Line]:
    curve = run.curve
    columns = {name: _drawn(name, held, curve.floor) for name, held in curve.trace.items()}
    style = 1 if curve.iterate == "average" else 0
    yield Line(f"{run.label}, {drawn_iterate(curve)}", i, columns, style)
    works = {name: columns[name] for name in X_AXES.values() if name in columns}
    average = curve.trace.get("average_exploitability")
    if average is not None and np.isfinite(average).any():
        yield Line(f"{run.label}, average iterate", i, works | _in_doubles(np.maximum(average, curve.floor)), 1)
    if curve.iterate == "polished" and curve.exploitability is not None and works:
        end = np.array([max(curve.exploitability, curve.floor)])
        last = {name: held[-1:] for name, held in works.items()}
        yield Line(f"{run.label}, polished", i, last | _in_doubles(end), 3)
    if curve.proven is not None and "kl" in curve.trace and len(curve.trace["kl"]):
        k, kl = curve.trace["iteration"], curve.trace["kl"]
        bound = _floats(kl[0] * curve.proven ** (k - k[0]))
        yield Line(f"{run.label}, theorem: times {curve.proven:.4g}", i, works | {"kl": bound}, 2)


def _drawn(name: str, held: np.ndarray, floor: float) -> list[float | None]:
    """A column as it is drawn: not below the rounding floor where that means nothing."""
    is_work = name in X_AXES.values()
    return _floats(held if is_work or name in SIGNED or name == "kl" else np.maximum(held, floor))


def _in_doubles(exploitability: np.ndarray) -> dict[str, list[float | None]]:
    return {name: _floats(IN_DOUBLES.get(name, 1.0) * exploitability) for name in RETURNED}


def _floats(values: np.ndarray) -> list[float | None]:
    return [float(x) if math.isfinite(x) else None for x in values]


def _levels(runs: Sequence[Run]) -> list[Level]:
    """Tolerances and rounding floors, each once."""
    tolerances = {run.curve.tolerance for run in runs if run.curve.tolerance}
    floors = {run.curve.floor for run in runs}
    found = []
    for name in (*sorted(RETURNED), "average_exploitability"):
        times = IN_DOUBLES.get(name, 1.0)
        found += [Level(f"tolerance {times * x:.2g}", name, times * x) for x in sorted(tolerances)]
        found += [Level(f"rounding floor {times * x:.1g}", name, times * x) for x in sorted(floors)]
    return found


# ------------------------------------------------------------------------------------------------ policies


def _lotteries(runs: Sequence[Run]) -> list[Block]:
    """The lotteries of symmetric games, likeliest options first."""
    found: dict[str, Mapping[str, float]] = {}
    for run in runs:
        policy = run.known.get("policy")
        lottery = policy.get("lottery") if isinstance(policy, dict) else None
        if isinstance(lottery, dict) and all(map(is_number, lottery.values())):
            found[run.label] = lottery
    most: dict[str, float] = {}
    for lottery in found.values():
        for option, p in lottery.items():
            most[option] = max(p, most.get(option, 0.0))
    named = sorted((option for option, p in most.items() if p > 0), key=lambda option: -most[option])[:MOST_OPTIONS]
    if not named:
        return []
    left_out = f", the likeliest {len(named)} of {len(most)} options" if len(named) < len(most) else ""
    rows: dict[str, list[Cell]] = {option: [Bar(lottery.get(option)) for lottery in found.values()] for option in named}
    return [Facts(f"Lottery of the symmetric game{left_out}", [*found], rows)]


def _policies(runs: Sequence[Run]) -> list[Block]:
    """Runs whose policies have the same names stand side by side."""
    groups: dict[Any, dict[int, Run]] = {}
    for i, run in enumerate(runs):
        if run.policy:
            groups.setdefault((run.curve.game, tuple(player.names for player in run.policy)), {})[i] = run
    return [_policy(group) for group in groups.values()]


def _policy(numbered: Mapping[int, Run]) -> Policies:
    runs = [*numbered.values()]
    players = [
        Player(one.name, one.infosets, one.counts, one.actions, one.parents, [other.probabilities for other in of_runs])
        for of_runs in zip(*(run.policy for run in runs), strict=True)
        for one in of_runs[:1]
    ]
    notes = ["A probability is that of the action at its information set; policy.csv of the run has all digits."]
    if any(len(player.infosets) > 1 for player in players):
        if players[0].parents is not None:
            notes.append("Reached: how likely the player's own choices lead there, whatever the others do.")
        else:
            notes.append("The run was written by version 0.1, which kept no tree: solve again to see one.")
    if not all(player.whole for player in runs[0].policy):
        notes.append(f"Of each player the first {MOST_INFOSETS:,} information sets are here.")
    return Policies(runs[0].curve.game, {i: run.label for i, run in numbered.items()}, players, " ".join(notes))
