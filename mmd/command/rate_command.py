"""What `mmd rate` does: a run of magnetic mirror descent recorded, its rate beside the theorem's, written and drawn."""

from collections.abc import Callable

import numpy as np

from mmd.algorithms.magnetic import MagneticMirrorDescent
from mmd.command.options import Rate, UsageError
from mmd.game.game import Game
from mmd.game.policy import Policy
from mmd.host.drawing import prepare_figure
from mmd.host.files import prepare_folder
from mmd.lab.recording import Recording, record
from mmd.magnets import Fixed
from mmd.measure import theory
from mmd.measure.rate import LinearRate, linear_rate
from mmd.measure.run_directory import write_json

ROOM = 1e-9  # relative: what rounding may add to the theorem's bound


def run(game: Game, options: Rate, say: Callable[[list[str]], None]) -> bool:
    """Record, fit, print, write and draw; whether KL fell along a line.

    Args:
        game: the game.
        options: what is asked for.
        say: prints lines.

    Raises:
        UsageError, GameError, OutputError, RateError: the input is bad, or no rate can be told.
    """
    if options.iterations is not None and options.iterations < 1:
        raise UsageError(f"expected --iterations of at least 1, got {options.iterations}")
    if not options.alpha > 0:
        raise UsageError(f"expected --alpha above 0, got {options.alpha}: without it no equilibrium is approached")
    if options.out is not None:
        prepare_folder(options.out)
    if options.plot is not None:
        prepare_figure(options.plot)
    algorithm = MagneticMirrorDescent(eta=options.eta, alpha=options.alpha, magnet=Fixed(options.center))
    start = None if options.seed is None else Policy.random(game, options.seed)
    recording = record(game, algorithm, options.iterations, start=start)
    if options.out is not None:
        recording.save(options.out)
    rate = linear_rate(recording)
    say(_lines(game, recording, rate))
    if options.out is not None:
        write_json(summary(game, recording, rate), options.out / "rate.json")
    if options.plot is not None:
        rate.plot(options.plot, style="paper" if options.style == "paper" else None)
    return rate.is_line


def summary(game: Game, recording: Recording, rate: LinearRate) -> dict[str, object]:
    """What `rate.json` holds."""
    eta, alpha = (float(recording.algorithm[name]) for name in ("eta", "alpha"))
    return {
        "schema_version": 1,
        "game": game.name,
        "alpha": alpha,
        "eta": eta,
        "smoothness": theory.smoothness(game),
        "largest_step": theory.largest_step(game, alpha),
        "is_line": rate.is_line,
        "r_squared": rate.r_squared,
        "measured_factor": rate.factor,
        "proven_factor": rate.proven,
        "measured_over_proven_rate": None if rate.proven_rate is None else rate.rate / rate.proven_rate,
        "bound_holds": bound_holds(recording),
        "stretch": [rate.first, rate.last],
        "decades": rate.decades,
    }


def bound_holds(recording: Recording) -> bool | None:
    """Whether KL was at most the theorem's bound in every iteration that is above rounding; None if nothing is proven.

    The theorem is about every iteration, not about the rate alone: KL(z*, z_k) <= factor^k KL(z*, z_0).
    """
    factor = recording.proven_factor
    if factor is None:
        return None
    kl, k = recording.trace["kl"], recording.trace["iteration"]
    seen = kl > 1e-14 * kl[0]
    return bool(np.all(kl[seen] <= kl[0] * factor ** k[seen] * (1 + ROOM)))


def _lines(game: Game, recording: Recording, rate: LinearRate) -> list[str]:
    eta, alpha = (float(recording.algorithm[name]) for name in ("eta", "alpha"))
    lines = [
        f"{_read_as(game)}: KL(z*, z) to {recording.reference}, alpha {alpha:.6g}, eta {eta:.6g}",
        f"  measured  {rate.status.partition('; ')[0]}",
    ]
    if rate.proven is None or rate.proven_rate is None:
        largest = theory.largest_step(game, alpha)
        return [*lines, f"  proven    nothing: eta is above {largest:.6g}, the largest step of the theorem"]
    holds = "at every iteration" if bound_holds(recording) else "NOT at every iteration"
    lines.append(f"  proven    each iteration multiplies it by {rate.proven:.6g} or less; it holds {holds}")
    rates = f"{rate.rate:.4g} an iteration measured, {rate.proven_rate:.4g} proven (-log of the factors)"
    return [*lines, f"  rate      {rates}: {rate.rate / rate.proven_rate:.3f} times the proven one"]


def _read_as(game: Game) -> str:
    """The game's name, and of a matrix how it was read."""
    if not game.is_matrix:
        return game.name
    m, n = (player.n_sequences - 1 for player in game.players)
    return f"{game.name}, {m} x {n} payoffs of the row player"
