"""What `mmd lab` does: the methods of the field on one game, their figure and their numbers."""

from collections.abc import Callable, Mapping

import numpy as np

from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import Algorithm, HostAlgorithm
from mmd.command.options import Lab, UsageError
from mmd.command.settings import named
from mmd.command.tables import columns
from mmd.feedback import Exact, Feedback, NoisyJudge, Sampled
from mmd.game.game import Game, HostPair
from mmd.game.policy import labels_of
from mmd.host.drawing import prepare_figure
from mmd.host.files import prepare_folder
from mmd.host.folder_lock import held
from mmd.host.interruption import INTERRUPTION
from mmd.lab import directory, laboratory
from mmd.lab.figure import CORNERS, plot_laboratory
from mmd.measure.equilibria import OptimalSet

LARGEST = 0.5 + 1e-9  # payoff that default settings are made for


def run(game: Game, options: Lab, say: Callable[[list[str]], None]) -> bool:
    """Run every method, say and write the numbers, then draw them; whether every method is done.

    Args:
        game: a matrix game.
        options: what is to be run.
        say: prints lines.

    Raises:
        UsageError, GameError, OutputError: the input is bad.
    """
    if options.iterations < 1:
        raise UsageError(f"expected --iterations of at least 1, got {options.iterations}")
    if not game.is_matrix:
        raise UsageError(f"mmd lab works on matrix games, and {game.name} is a tree: use mmd compare")
    methods = _methods(options, game)
    start = _symmetric_start(options.start, game)
    prepare_folder(options.out)
    prepare_figure(options.out / "lab.png")
    optimal = [OptimalSet.of(game, player) for player in (0, 1)]
    records: dict[str, laboratory.Records] = {}

    def finish() -> None:
        if records:
            _report(game, options, methods, records, optimal, say)

    with held(options.out, "mmd"):
        with INTERRUPTION.leaving(finish):
            _study(game, methods, options, start, records)
        finish()
    return len(records) == len(methods)


def _report(
    game: Game,
    options: Lab,
    methods: dict[str, Algorithm],
    records: dict[str, laboratory.Records],
    optimal: list[OptimalSet],
    say: Callable[[list[str]], None],
) -> None:
    """Write the numbers, say them, draw them."""
    distances = {label: found.distances(optimal) for label, found in records.items()}
    directory.save(options.out, game, methods, records, distances)
    lines = [game.name, *_lines(records, distances)]
    if (largest := np.abs(game.payoff.entries().values).max(initial=0.0)) > LARGEST:
        lines.append(f"payoffs reach {largest:g}, and default settings are for payoffs of at most 1/2: scale the game")
    if len(records) < len(methods):
        lines.append(f"interrupted: {', '.join(label for label in methods if label not in records)} missing")
    say(lines)  # before the figure, so that nothing is lost with it
    named = labels_of(game)[0].actions[0]
    corners = (tuple(named), optimal[0].one) if len(named) == len(CORNERS) else None
    plot_laboratory(game.name, records, distances, corners, options.out / "lab.png")
    say([f"wrote lab.json, lab.csv and lab.png to {options.out}"])


def _study(
    game: Game,
    methods: dict[str, Algorithm],
    options: Lab,
    start: HostPair | None,
    records: dict[str, laboratory.Records],
) -> None:
    """Record every method's course; after Ctrl-C there are those that are done, if any is."""
    try:
        for label, algorithm in methods.items():
            marks = laboratory.marks(options.iterations)
            records |= laboratory.study(game, {label: algorithm}, options.seeds, marks, start)
    except KeyboardInterrupt:
        if not records:
            raise
        INTERRUPTION.patient = True


def _methods(options: Lab, game: Game) -> dict[str, Algorithm]:
    """The methods by label, each under the feedback asked for."""
    feedback = _feedback(options)
    found = named(options.methods or laboratory.METHODS, game, feedback=feedback)
    for label, method in found.items():
        if not isinstance(feedback, Exact) and not hasattr(method, "feedback"):
            raise UsageError(f"{label} takes exact payoffs only: leave it out, or use --feedback exact")
    return {_label(label, method): laboratory.batchable(method) for label, method in found.items()}


def _label(label: str, method: Algorithm | HostAlgorithm) -> str:
    """How a method is named: here `auto` is its compiled steps, and says so."""
    return f"{label}: {method.steps.name}" if isinstance(method, Auto) else label


def _feedback(options: Lab) -> Feedback:
    """The feedback that `exact`, `sampled=8` or `judge=8` means."""
    kind, _, number = options.feedback.partition("=")
    match kind, number.isdecimal():
        case "exact", False if not number:
            return Exact()
        case "sampled", True:
            return Sampled(int(number))
        case "judge", True:
            return NoisyJudge(int(number), options.order_bias, options.ties, options.both_orders)
    raise UsageError(f"expected --feedback to be exact, sampled=8 or judge=8 (a number >= 1), got {options.feedback!r}")


def _symmetric_start(text: str | None, game: Game) -> HostPair | None:
    """Log-policies of both players, from probabilities separated by commas."""
    if text is None:
        return None
    try:
        numbers = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise UsageError(f"expected --start to be numbers separated by commas, got {text!r}") from None
    sizes = {player.n_sequences - 1 for player in game.players}
    if sizes != {len(numbers)} or not (numbers > 0).all() or not np.isclose(numbers.sum(), 1.0, rtol=0, atol=1e-6):
        raise UsageError(f"expected --start to be a positive probability for each action, summing to 1, got {text}")
    log = np.log(np.concatenate([[1.0], numbers / numbers.sum()]))
    return log, log


def _lines(records: Mapping[str, laboratory.Records], distances: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each method: where it ended, medians over seeds."""
    header = ("method", "evaluations", "comparisons", "last", "average", "KL to equilibrium", "seeds")
    rows = [
        (
            label,
            f"{int(np.median(found.gradient_evaluations[:, -1]))}",
            f"{int(np.median(found.preference_calls[:, -1]))}",
            f"{np.median(found.last[:, -1]):.2e}",
            "-" if np.isnan(found.average[:, -1]).any() else f"{np.median(found.average[:, -1]):.2e}",
            f"{np.median(distances[label][:, -1]):.2e}",
            str(len(found.last)),
        )
        for label, found in records.items()
    ]
    return ["NashConv of the last and of the average iterate, medians over seeds", *columns([header, *rows])]
