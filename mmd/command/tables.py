"""What the `mmd` command prints: results as lines of text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.measure.certificate import Certificate
from mmd.measure.solution import Solution

IN_SUPPORT = 1e-6  # probabilities up to this are left out of the printed support
MAX_SUPPORT = 20

Rows = Sequence[tuple[str, str]]


def solution_lines(solution: Solution) -> list[str]:
    """The method; status, certificate and work; the facts of the game; the support of a matrix game's policy."""
    gap = solution.regularized_gap
    rows = [
        ("status", solution.status.value),
        ("value", _resolved(solution.value, max(solution.exploitability, solution.tolerance))),
        ("exploitability", f"{solution.exploitability:.3e} (tolerance {solution.tolerance:.3e})"),
        ("NashConv", f"{solution.nash_conv:.3e}"),
        *([] if gap is None else [("regularized gap", f"{gap:.3e}")]),
        ("iterate", solution.iterate),
        *_polish_rows(solution.polish),
        ("algorithm", _described(solution.algorithm)),
        ("iterations", f"{solution.iterations:,}"),
        ("gradient evaluations", f"{solution.gradient_evaluations:,}"),
        ("seconds", ", ".join(f"{part} {seconds:.2f}" for part, seconds in solution.seconds.items())),
        ("dtype", solution.dtype),
    ]
    heading = f"{solution.game.name} by {solution.method}"
    return [heading, *_aligned(rows), *_facts(solution.game), *_support(solution.policy)]


def certificate_lines(game: Game, certificate: Certificate) -> list[str]:
    """The certificate of a policy."""
    row, column = certificate.best_response_gains
    rows = [
        ("value", _resolved(certificate.value, max(certificate.exploitability, certificate.default_tolerance))),
        ("exploitability", f"{certificate.exploitability:.6e}"),
        ("NashConv", f"{certificate.nash_conv:.6e}"),
        ("best-response gain, row", f"{row:.6e}"),
        ("best-response gain, column", f"{column:.6e}"),
    ]
    return [game.name, *_aligned(rows)]


def _resolved(value: float, error: float) -> str:
    """Twelve digits of a value, or as many as its error leaves, where a large constant takes the first ones."""
    told_apart = abs(value) / error if 0 < error < math.inf else 0.0
    digits = math.ceil(math.log10(told_apart)) + 1 if 0 < told_apart < math.inf else 0
    return f"{value:.{min(max(digits, 12), 17)}g}"


def comparison_lines(solutions: Mapping[str, Solution]) -> list[str]:
    """One line a run."""
    header = ("algorithm", "iterate", "status", "exploitability", "iterations", "gradient evaluations", "seconds")
    rows = [
        (
            label,
            run.iterate,
            run.status.name.lower().replace("_", " "),
            f"{run.exploitability:.3e}",
            f"{run.iterations:,}",
            f"{run.gradient_evaluations:,}",
            f"{run.seconds['solve']:.2f}",
        )
        for label, run in solutions.items()
    ]
    return columns([header, *rows])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose cells stand below each other."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _aligned(rows: Rows) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(width)}  {text}" for name, text in rows]


UNSAID = {"name", "keeps_best"}


def _described(algorithm: Mapping[str, Any]) -> str:
    """`name (option value, ...)`."""
    options = ", ".join(f"{name} {_short(value)}" for name, value in algorithm.items() if name not in UNSAID)
    return f"{algorithm['name']} ({options})" if options else algorithm["name"]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        options = ", ".join(f"{name}={_short(inner)}" for name, inner in value.items() if name != "kind")
        return f"{value.get('kind', '')}({options})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _polish_rows(report: Mapping[str, Any] | None) -> Rows:
    if report is None:
        return []
    best = min(report["tries"], key=lambda one: one["nash_conv_after"])
    change = f"NashConv {best['nash_conv_before']:.3e} -> {best['nash_conv_after']:.3e}"
    tries = "1 try" if len(report["tries"]) == 1 else f"{len(report['tries'])} tries, the best one"
    return [("polish", f"{tries}: {change}; {report['seconds']:.2f} s")]


def _facts(game: Game) -> list[str]:
    return [f"  {fact}" for fact in game.description.facts]


def _support(policy: Policy) -> list[str]:
    """What a matrix game's policy plays, likeliest first; one lottery if the game is symmetric."""
    if not policy.game.is_matrix:
        return []
    named = policy.as_dict() or {}
    shown = {"lottery": named["lottery"]} if "lottery" in named else named
    lines = [line for player, chances in shown.items() for line in [f"  {player} plays", *_likeliest(chances.items())]]
    counted = policy.game.description.sample is not None
    return [*lines, "  mmd bootstrap tells how sure this is, and whether there are others"] if counted else lines


def _likeliest(chances: Iterable[tuple[str, float]]) -> list[str]:
    support = sorted(((p, label) for label, p in chances if p > IN_SUPPORT), key=lambda pair: -pair[0])
    rest = len(support) - MAX_SUPPORT
    lines = [f"    {p:.6f}  {label}" for p, label in support[:MAX_SUPPORT]]
    return [*lines, f"    and {rest} more"] if rest > 0 else lines
