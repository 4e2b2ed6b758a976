"""The `mmd` command: what can be typed, one dataclass a subcommand. Imports nothing heavy."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mmd.host.command_line import UsageError as UsageError
from mmd.host.help import Program
from mmd.host.marks import Positional, Shown

MAGNETS = ("fixed", "refresh", "moving", "halpern")
NAMED = re.compile(r'^    name: ClassVar\[str\] = "(.+)"$', re.MULTILINE)
CLASS = re.compile(r"^class (?P<name>\w+)(?:\((?P<bases>.*)\))?:\n(?P<body>(?:\n|    .*\n)*)", re.MULTILINE)

Spec = Annotated[Positional[str], Shown("SPEC")]


Missing = Annotated[
    Literal["refuse", "half", "drop"] | None,
    Shown(
        "HOW",
        "refuse",
        help="Pairs that a file of comparisons never compares: refuse them, count them as half won, or drop options.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop, where to run, what to write."""

    tolerance: Annotated[float | None, Shown("NUMBER", "1e-11 of what is at stake in play")] = None
    """Exploitability to reach, in payoff units."""
    max_iterations: int = 100_000
    """Iterations allowed."""
    trace_every: Annotated[int, Shown("INTEGER")] = 10
    """Iterations between two rows of trace.csv, which are also the checks (check_every in Python). 1 for a figure whose
    axis of work is logarithmic."""
    time_limit: Annotated[float | None, Shown("SECONDS", "none")] = None
    """Seconds of solving allowed, compilation apart."""
    device: Annotated[str | None, Shown("DEVICE", "JAX's choice")] = None
    """Where to run: cpu, gpu or tpu, with a number as in gpu:1 if there are several."""
    devices: int = 1
    """Divide payoffs and sweeps over this many devices, the first ones of their platform."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the iteration. Certificates are always float64."""
    seed: Annotated[int | None, Shown("INTEGER", "start from the uniform policy")] = None
    """Start from a random policy drawn with this seed."""
    polish: bool = False
    """Try the certified polish with any algorithm; it never makes the policy worse."""
    no_polish: bool = False
    """Keep to the algorithm's own iterates. Otherwise restarted tries the certified polish as it goes."""
    out: Annotated[Path | None, Shown("FOLDER", "not written")] = None
    """Write a run directory: result.json, trace.csv, policy.npz, policy.csv, environment.json."""
    resume: bool = False
    """Go on from checkpoint.npz in the folder of the run, if it is there; tolerance and limits may be others."""
    plot: Annotated[Path | None, Shown("FILE", "not drawn")] = None
    """Draw the exploitability against gradient evaluations, as .png, .svg or .pdf."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Solve(Limits):
    """Find a Nash equilibrium of a game, with a certificate."""

    spec: Spec
    """A built-in game (`mmd games`), one with parameters such as leduc_poker:ranks=3, a file (.json .csv .npy .nfg
    .efg, PrefLib's .soc .soi .toc .toi), or a game from outside (module:name, path.py:name)."""
    missing: Missing = None
    algorithm: str = "auto"
    """auto (chooses, and says what), anchored, mmd, another one of mmd/algorithms, or one from outside (module:name,
    path.py:name)."""
    alpha: Annotated[float | None, Shown("NUMBER", "the algorithm's own, 0.1 of mmd")] = None
    """Regularization towards the magnet, in payoff units; `mmd --help` lists the algorithms that take it."""
    eta: Annotated[float | None, Shown("NUMBER", "the algorithm's own, of mmd the largest that the theorem admits")] = (
        None
    )
    """Step size, in 1 / payoff units; `mmd --help` lists the algorithms that take it."""
    regularized_tolerance: Annotated[float | None, Shown("NUMBER", "1e-12 of the payoff range")] = None
    """Regularized gap at which a run whose magnet stays has arrived; if given, that is success (exit status 0)."""
    magnet: Annotated[str | None, Shown("MAGNET", "the algorithm's own, fixed of mmd")] = None
    """How the magnet moves: fixed, refresh (when the inner game is solved), refresh=200 (iterations), moving=0.05
    (rate), moving=0.05,power=4 (whose rate falls), halpern (which stays while alpha fades), or one from outside
    (module:name, path.py:name). `mmd --help` lists the algorithms that take it."""
    center: Literal["dilated", "uniform"] = "dilated"
    """Where the magnet starts, for algorithms that take a magnet; on trees the two are different magnets."""


@dataclass(frozen=True)
class Verify:
    """Certify a policy: its value, NashConv and each player's best response, by code the solvers do not share."""

    spec: Spec
    """The game, as in `mmd solve`."""
    policy: Annotated[Positional[Path], Shown("POLICY")]
    """policy.npz, CSV (columns player, infoset, action, probability) or a run directory."""
    missing: Missing = None


@dataclass(frozen=True, kw_only=True)
class Compare(Limits):
    """Run several algorithms on a game under the same limits."""

    spec: Spec
    """The game, as in `mmd solve`."""
    missing: Missing = None
    algorithms: Annotated[tuple[str, ...], Shown("[LABEL=]NAME[:KEY=VALUE,...] ...")] = ("mpo,anchored,mmd",)
    """Names as in `mmd solve --algorithm`, separated by spaces or commas. Settings may stand behind a name, as in
    mmd:alpha=1,magnet=fixed mmd:alpha=0.1: keys are those of the algorithm, and center, of its magnet. A label may
    stand before it, as in "fixed magnet=mmd:alpha=1"; else the name is the label, with the settings that differ."""
    out: Annotated[Path | None, Shown("FOLDER", "not written")] = None
    """Write a run directory FOLDER/LABEL for each algorithm, and the figure FOLDER/compare.png."""
    plot: Annotated[Path | None, Shown("FILE", "not drawn")] = None
    """Draw the exploitability of all of them against gradient evaluations, as .png, .svg or .pdf."""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Run preference-game methods over seeds and draw the field's figure: gaps, KL to equilibrium, paths."""

    spec: Spec
    """A matrix game, as in `mmd solve`, such as preference:cycle."""
    missing: Missing = None
    methods: Annotated[
        tuple[str, ...], Shown("[LABEL=]NAME[:KEY=VALUE,...] ...", "eight of them, one of each kind")
    ] = ()
    """Names of algorithms, as in `mmd solve --algorithm`, with settings and labels as in `mmd compare --algorithms`."""
    feedback: Annotated[str, Shown("FEEDBACK", "exact")] = "exact"
    """What methods are told: exact, sampled=8 (opponents) or judge=8 (coin flips against so many opponents)."""
    order_bias: float = 0.0
    """By how much a judge favours what it is shown first."""
    ties: float = 0.0
    """How often a judge calls a tie."""
    both_orders: bool = False
    """Ask a judge in both orders."""
    seeds: int = 10
    """How many seeds, where feedback is noisy."""
    iterations: int = 10_000
    """Iterations of each method."""
    start: Annotated[str | None, Shown("NUMBERS", "uniform")] = None
    """First strategy of both players, as in 0.6,0.3,0.1."""
    out: Path = Path("lab")
    """Folder for lab.json, lab.csv and lab.png."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Qre:
    """Quantal response equilibria: where magnetic mirror descent with a magnet that stays goes, over alpha."""

    spec: Spec
    """The game, as in `mmd solve`."""
    missing: Missing = None
    alphas: Annotated[str | None, Shown("NUMBERS", "13 of them, from the payoff range down to a thousandth")] = None
    """Regularizations towards the magnet, in payoff units, separated by commas."""
    center: Literal["uniform", "dilated"] = "uniform"
    """The magnet; on trees the two are different magnets."""
    tolerance: Annotated[float | None, Shown("NUMBER", "1e-12 of the payoff range")] = None
    """Regularized gap to reach, in payoff units."""
    max_iterations: int = 200_000
    """Iterations allowed for each alpha."""
    out: Annotated[Path | None, Shown("FILE", "not written")] = None
    """Write the table as .csv."""
    plot: Annotated[Path | None, Shown("FILE", "not drawn")] = None
    """Draw exploitability and probabilities over alpha, as .png, .svg or .pdf."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast magnetic mirror descent with a magnet that stays comes to its equilibrium, beside the theorem's rate."""

    spec: Spec
    """The game: a name, a .csv file of payoffs of the row player without a header, or any other SPEC of `mmd solve`."""
    missing: Missing = None
    alpha: float = 0.1
    """Regularization towards the magnet, in payoff units: any above 0; a smaller one takes more iterations."""
    eta: Annotated[float | None, Shown("NUMBER", "the largest that the theorem admits")] = None
    """Step size, in 1 / payoff units; with a longer one than the theorem admits nothing is proven."""
    center: Literal["dilated", "uniform"] = "dilated"
    """Where the magnet stays; on trees the two are different magnets."""
    seed: Annotated[int | None, Shown("INTEGER", "start from the uniform policy")] = None
    """Start from a random policy drawn with this seed."""
    iterations: Annotated[
        int | None, Shown("INTEGER", "as many as the theorem needs to 1e-16 of the first, at most 100,000")
    ] = None
    """Iterations to record."""
    out: Annotated[Path | None, Shown("FOLDER", "not written")] = None
    """Write rate.json, and recording.json and trace.csv, which mmd plot --y kl draws."""
    plot: Annotated[Path | None, Shown("FILE", "not drawn")] = None
    """Draw KL, the line through it and the theorem's, as .png, .svg or .pdf."""
    style: Literal["screen", "paper"] = "screen"
    """paper: a column's width, in small print."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How sure a lottery of measured comparisons is: intervals of value and probabilities, and whether it is unique."""

    spec: Spec
    """A file of comparisons or ballots: .csv, .tsv, .json, .soc, .soi, .toc or .toi."""
    missing: Missing = None
    draws: int = 1_000
    """How often the comparisons are drawn again."""
    level: float = 0.95
    """Share of what is drawn that an interval holds."""
    seed: int = 0
    """Of the draws."""
    maximal_entropy: bool = False
    """Report the probabilities of the equilibrium of maximal entropy, not of just any one where it is not unique. The
    intervals are of whatever equilibria the drawn tables have."""
    out: Annotated[Path | None, Shown("FILE", "not written")] = None
    """Write the table as .csv."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True)
class Plot:
    """Draw the convergence of runs."""

    runs: Annotated[Positional[tuple[Path, ...]], Shown("RUN...")]
    """Run directories, as `mmd solve --out` writes them, or the FOLDER of `mmd compare --out` for all runs in it."""
    labels: Annotated[tuple[str, ...], Shown("LABEL ...", "names of folders, and which iterate")] = ()
    """A label for each run, in their order; nothing is added to it."""
    title: Annotated[str | None, Shown("TEXT", "the game, none in the style paper")] = None
    """The title; --title "" for none."""
    x: Literal["iterations", "gradient_evaluations", "seconds"] = "gradient_evaluations"
    """The horizontal axis."""
    y: str = "exploitability"
    """The vertical axis: a column of trace.csv, such as nash_conv, regularized_gap, value, or kl of mmd rate --out. The
    vertical axis is logarithmic, except for the value."""
    xscale: Literal["linear", "log"] = "linear"
    """Scale of the horizontal axis."""
    style: Literal["screen", "paper"] = "screen"
    """paper: a column's width, in small print, without title and tolerance."""
    width: Annotated[float | None, Shown("INCHES", "7, in the style paper 3.4")] = None
    """Width of the figure."""
    out: Path = Path("convergence.png")
    """The figure: .png, .svg or .pdf."""


@dataclass(frozen=True)
class Report:
    """Show runs side by side on one page of HTML: curves, certificates, settings, policies. It needs no network."""

    runs: Annotated[Positional[tuple[Path, ...]], Shown("RUN...")]
    """Run directories, as `mmd solve --out` and `mmd rate --out` write them."""
    out: Path = Path("report.html")
    """The page: .html."""


@dataclass(frozen=True)
class Games:
    """List the built-in games and their parameters."""


@dataclass(frozen=True)
class Env:
    """Print versions and devices, for bug reports."""


Command = Solve | Verify | Compare | Lab | Qre | Rate | Bootstrap | Plot | Report | Games | Env
BY_NAME: dict[str, type] = {
    "solve": Solve,
    "verify": Verify,
    "compare": Compare,
    "lab": Lab,
    "qre": Qre,
    "rate": Rate,
    "bootstrap": Bootstrap,
    "plot": Plot,
    "report": Report,
    "games": Games,
    "env": Env,
}


def algorithms(taking: str = "") -> list[str]:
    """Names of all algorithms, or of those that take a setting, sorted.

    They are read from their files: importing them takes a second. A setting is a field of the class, or of a class
    that it inherits from.

    Args:
        taking: alpha, eta or magnet; empty for all.
    """
    texts = [file.read_text("utf-8") for file in (Path(__file__).parents[1] / "algorithms").glob("*.py")]
    classes = {found["name"]: found for text in texts for found in CLASS.finditer(text)}

    def takes(name: str) -> bool:
        found = classes.get(name)
        return found is not None and (
            f"\n    {taking}: " in found["body"]
            or any(takes(base) for base in re.findall(r"\w+", found["bases"] or ""))
        )

    named = {name: called[1] for name, found in classes.items() if (called := NAMED.search(found["body"]))}
    return sorted({called for name, called in named.items() if not taking or takes(name)})


def _names() -> Mapping[str, Sequence[str]]:
    return {
        "algorithms (--algorithm)": algorithms(),
        **{f"  which take --{setting}": algorithms(setting) for setting in ("alpha", "eta")},
        "  which take --magnet and --center": algorithms("magnet"),
        "magnets (--magnet)": MAGNETS,
    }


PROGRAM = Program(
    "mmd",
    "Certified Nash equilibria of two-player zero-sum games: matrices, game trees, tables of preferences.",
    BY_NAME,
    {
        "solve and check": ("solve", "verify", "games"),
        "compare and study": ("compare", "lab", "qre", "rate", "bootstrap"),
        "show": ("plot", "report", "env"),
    },
    _names,
)
