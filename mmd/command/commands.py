"""What the `mmd` command does, subcommand by subcommand. Everything that can be refused is refused before solving."""

import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import games
from mmd import algorithms
from mmd.algorithms.auto import Auto
from mmd.algorithms.contract import Algorithm, HostAlgorithm
from mmd.command import tables
from mmd.command.options import (
    Bootstrap,
    Command,
    Compare,
    Env,
    Games,
    Lab,
    Limits,
    Plot,
    Qre,
    Rate,
    Report,
    Solve,
    UsageError,
    Verify,
)
from mmd.command.settings import folder_of, given_labels, magnet_of, named
from mmd.game import policy_files
from mmd.game.game import Game, GameError
from mmd.game.policy import Policy
from mmd.game.policy_files import PolicyError
from mmd.host import environment
from mmd.host.drawing import prepare_figure
from mmd.host.files import OutputError
from mmd.host.folder_lock import held
from mmd.host.interruption import INTERRUPTED, INTERRUPTION
from mmd.host.progress import interruptible, progress
from mmd.measure import run_directory
from mmd.measure.certificate import certify
from mmd.measure.figure import Curve, FigureError, Look, draw_convergence
from mmd.measure.plot import curve_of, label_with_method, plot_convergence
from mmd.measure.rate import RateError
from mmd.measure.run_directory import RunError
from mmd.measure.solution import Solution, Status
from mmd.report.page import labelled
from mmd.solving.checkpoint import CheckpointError
from mmd.solving.solver import solve

DONE, NOT_REACHED = 0, 3
REFUSALS = (GameError, PolicyError, RunError, OutputError, CheckpointError, FigureError, RateError)
OPTIONAL_LIBRARIES = ("matplotlib", "flax", "orbax-checkpoint", "transformers")
ROUNDING = 1e-9  # of the payoff range: by which certificates of one policy may differ
LAST_ITERATE = "--algorithm anchored"


def run(command: Command, argv: Sequence[str]) -> int:
    """Carry out a command and return the exit status.

    Args:
        command: what to do.
        argv: the command line it was parsed from, to be recorded.

    Raises:
        UsageError: the input is bad; the message is one sentence.
    """
    carry_out: dict[type, Callable[[Any, Sequence[str]], int]] = {
        Solve: _solve,
        Verify: _verify,
        Compare: _compare,
        Lab: _lab,
        Qre: _qre,
        Rate: _rate,
        Bootstrap: _bootstrap,
        Plot: _plot,
        Report: _report,
        Games: _games,
        Env: _env,
    }
    try:
        return carry_out[type(command)](command, ["mmd", *argv])
    except REFUSALS as error:
        raise UsageError(str(error)) from None


def _solve(options: Solve, argv: Sequence[str]) -> int:
    game = _game(options)
    algorithm = _algorithm(options)
    _prepare(options)
    _check_before(game, algorithm, options, options.out)
    with held(options.out, "mmd"), _device(options.device):
        solution = _run(game, algorithm, options, options.out)
        if options.out is not None:
            run_directory.save(solution, options.out, command=argv)
    written = (
        []
        if options.out is None
        else [f"  written to {options.out}: the policy as policy.csv, and what mmd plot draws"]
    )
    _say([*tables.solution_lines(solution), *written], quiet=options.quiet)
    if solution.status is Status.INTERRUPTED:
        return INTERRUPTED
    if options.plot is not None:
        plot_convergence(solution, path=options.plot)
        _say(_instead([solution.curve]), quiet=options.quiet)
    arrived = solution.status is Status.REGULARIZED and options.regularized_tolerance is not None
    return DONE if solution.converged or arrived else NOT_REACHED


def _verify(options: Verify, argv: Sequence[str]) -> int:
    game = _game(options)
    policy = policy_files.load(options.policy, game)
    _say(tables.certificate_lines(game, certify(game, policy)))
    return DONE


def _compare(options: Compare, argv: Sequence[str]) -> int:
    game = _game(options)
    chosen, given = named(options.algorithms, game), given_labels(options.algorithms)
    figures = [path for path in (options.plot, options.out and options.out / "compare.png") if path is not None]
    folders = {label: options.out and options.out / folder_of(label) for label in chosen}
    _check_folders(folders, figures)
    _prepare(options)
    for label, algorithm in chosen.items():
        _check_before(game, algorithm, options, folders[label])
    for figure in figures:
        prepare_figure(figure)
    solutions: dict[str, Solution] = {}

    def finish() -> None:
        if solutions:
            found = {label_with_method(label, run.curve): run for label, run in solutions.items()}
            _say([game.name, *tables.comparison_lines(found)], quiet=options.quiet)
            ended = Status.INTERRUPTED not in {solution.status for solution in solutions.values()}
            curves = {label: run.curve for label, run in found.items()}
            for figure in figures if ended else ():  # Ctrl-C waits for no figure; `mmd plot` draws it from the runs
                draw_convergence(curves, Look(given=given), figure)

    with held(options.out, "mmd"), _device(options.device), INTERRUPTION.leaving(finish):
        for label, algorithm in chosen.items():
            folder = folders[label]
            solution = _run(game, algorithm, options, folder, label)
            solutions[label] = solution
            if folder is not None:
                run_directory.save(solution, folder, command=argv)
            if solution.status is Status.INTERRUPTED:
                break
    finish()
    return INTERRUPTED if Status.INTERRUPTED in {solution.status for solution in solutions.values()} else DONE


def _check_folders(folders: Mapping[str, Path | None], figures: Sequence[Path]) -> None:
    """That no run's folder is where a figure will be.

    Raises:
        UsageError: one is.
    """
    drawn = {figure.resolve() for figure in figures}
    if taken := [label for label, folder in folders.items() if folder is not None and folder.resolve() in drawn]:
        raise UsageError(f"expected another label than {taken[0]!r}, which is the name of the figure")


def _instead(curves: Iterable[Curve]) -> list[str]:
    """How to draw mirror descent, where a figure shows what `auto` chose or another method."""
    drawn = {curve.method: None for curve in curves if curve.chosen or curve.method != curve.algorithm.get("name", "")}
    return [f"  drawn: {', '.join(drawn)}; for a last iterate of mirror descent: {LAST_ITERATE}"] if drawn else []


def _lab(options: Lab, argv: Sequence[str]) -> int:
    from mmd.command import lab_command  # brings SciPy's optimizers, which would slow the start of every other command

    done = lab_command.run(_game(options), options, say=partial(_say, quiet=options.quiet))
    return DONE if done else INTERRUPTED


def _qre(options: Qre, argv: Sequence[str]) -> int:
    from mmd.command import qre_command

    reached = qre_command.run(_game(options), options, say=partial(_say, quiet=options.quiet))
    return DONE if reached else NOT_REACHED


def _rate(options: Rate, argv: Sequence[str]) -> int:
    from mmd.command import rate_command

    is_line = rate_command.run(_game(options), options, say=partial(_say, quiet=options.quiet))
    return DONE if is_line else NOT_REACHED


def _bootstrap(options: Bootstrap, argv: Sequence[str]) -> int:
    from mmd.command import bootstrap_command  # brings SciPy

    bootstrap_command.run(_game(options), options, say=partial(_say, quiet=options.quiet))
    return DONE


def _plot(options: Plot, argv: Sequence[str]) -> int:
    if not options.runs:
        raise UsageError("expected at least one run directory, as `mmd solve --out` writes them")
    prepare_figure(options.out)
    curves = {label: curve_of(run) for label, run in _named_runs(options).items()}
    if not options.labels:
        curves = {label_with_method(label, curve): curve for label, curve in curves.items()}
    draw_convergence(curves, _look(options), options.out)
    _say([f"wrote {options.out}", *_instead(curves.values())])
    return DONE


def _named_runs(options: Plot) -> dict[str, Path]:
    """The runs by the labels that were typed, or by their folders."""
    runs = [run for folder in options.runs for run in run_directory.runs_in(folder)]
    if not options.labels:
        return labelled(runs)
    if len(options.labels) != len(runs):
        n, many = len(options.labels), len(runs)
        raise UsageError(f"expected as many --labels as runs, got {n} for {many}")
    if len(set(options.labels)) < len(options.labels):
        raise UsageError(f"expected --labels that differ, got {', '.join(options.labels)}")
    return dict(zip(options.labels, runs, strict=True))


def _look(options: Plot) -> Look:
    """What the figure shows, and how."""
    return Look(
        x=options.x,
        y=options.y,
        xscale=options.xscale,
        style=None if options.style == "screen" else options.style,
        given=options.labels,
        title=options.title,
        width=options.width,
    )


def _report(options: Report, argv: Sequence[str]) -> int:
    from mmd.command import report_command

    report_command.run(options, _say)
    return DONE


def _games(options: Games, argv: Sequence[str]) -> int:
    known = games.available()
    width = max(map(len, known))
    _say(f"{name.ljust(width)}  {description}" for name, description in known.items())
    return DONE


def _env(options: Env, argv: Sequence[str]) -> int:
    versions = environment.versions((*environment.LIBRARIES, *OPTIONAL_LIBRARIES))
    _say(f"{name} {version or 'not installed'}" for name, version in versions.items())
    _say([f"commit {environment.commit() or 'unknown (not a checkout)'}", f"platform {platform.platform()}"])
    for device in jax.devices():
        float64 = "yes" if environment.has_float64(device) else "no"
        _say([f"device {environment.describe(device)}, float64 {float64}"])
    return DONE


def _game(options: Solve | Verify | Compare | Lab | Qre | Rate | Bootstrap) -> Game:
    """The game that SPEC names, with what --missing says of its pairs."""
    if options.missing is None:
        return games.load(options.spec)
    if not Path(options.spec.partition("#")[0]).is_file():
        raise UsageError(f"--missing is for files of comparisons, and there is no file {options.spec!r:.80}")
    return games.load(f"{options.spec}#missing={options.missing}")


def _run(
    game: Game,
    algorithm: Algorithm | HostAlgorithm,
    options: Limits,
    folder: Path | None,
    label: str | None = None,
) -> Solution:
    """Solve, with a checkpoint in the run's folder if there is one."""
    checkpoint = folder and folder / run_directory.CHECKPOINT
    if checkpoint is not None and options.resume and not options.quiet:
        sys.stderr.write(f"{_begun(algorithm, checkpoint)}\n")
    start = None if options.seed is None else Policy.random(game, options.seed)
    before = "running" if _on_host(algorithm) or type(algorithm) is Auto else "compiling"
    shown = progress(label or algorithm.name, options.max_iterations, before, quiet=options.quiet)
    with shown as show, interruptible(show) as on_check:
        return solve(
            game,
            algorithm,
            tolerance=options.tolerance,
            regularized_tolerance=options.regularized_tolerance if isinstance(options, Solve) else None,
            check_every=options.trace_every,
            max_iterations=options.max_iterations,
            time_limit=options.time_limit,
            dtype=options.dtype,
            start=start,
            on_check=on_check,
            polish=_polish(options),
            checkpoint=checkpoint,
            resume=options.resume,
            mesh=_mesh(options),
        )


def _check_before(game: Game, algorithm: Algorithm | HostAlgorithm, options: Limits, folder: Path | None) -> None:
    """That a run which may resume does not replace another one that has ended and has no checkpoint.

    A checkpoint says itself of which run it is. Without one, the game is the same if its name and payoff range are, and
    if the policy is worth the same in it.

    Raises:
        RunError, PolicyError: the folder holds another run, or one that cannot be read.
    """
    if not options.resume or folder is None or (folder / run_directory.CHECKPOINT).exists():
        return
    if (folder / run_directory.RECORDING).exists():
        raise RunError(f"{folder}: holds a recording, which cannot be gone on with; choose another folder")
    if not (folder / "result.json").exists():
        return
    known = run_directory.load_result(folder)
    made = known["algorithm"] if isinstance(known.get("algorithm"), dict) else {}
    other = RunError(
        f"{folder}: cannot resume {game.name} by {algorithm.name}: holds another run, of {known.get('game')} by "
        f"{made.get('name')}; choose another folder, or start without --resume to replace it"
    )
    span = game.description.payoff_range
    if (known.get("game"), known.get("payoff_range", span)) != (game.name, span):
        raise other
    if algorithm.name not in (made.get("chosen_by"), made.get("name")):
        raise other
    found = certify(game, policy_files.load(folder, game))
    told = np.array([known.get("value"), known.get("nash_conv")], np.float64)
    if not np.isclose([found.value, found.nash_conv], told, rtol=ROUNDING, atol=ROUNDING * span).all():
        raise other


def _begun(algorithm: Algorithm | HostAlgorithm, checkpoint: Path) -> str:
    """Where a run that may resume begins."""
    if _on_host(algorithm):
        return f"{algorithm.name} keeps no checkpoint: starting anew"
    return f"resuming from {checkpoint}" if checkpoint.exists() else f"no {checkpoint} yet: starting anew"


def _on_host(algorithm: Algorithm | HostAlgorithm) -> bool:
    """Whether the algorithm has its own loop, on the host."""
    return isinstance(algorithm, HostAlgorithm)


def _polish(options: Limits) -> bool | None:
    """Whether to try the polish; None for the algorithm's default."""
    if options.polish and options.no_polish:
        raise UsageError("expected --polish or --no-polish, got both")
    return options.polish or (False if options.no_polish else None)


def _algorithm(options: Solve) -> Algorithm | HostAlgorithm:
    """The algorithm that was asked for, with the numbers that were given."""
    algorithm = algorithms.load(options.algorithm)
    given: dict[str, Any] = {name: getattr(options, name) for name in ("alpha", "eta")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.magnet is not None or options.center != "dilated":
        given["magnet"] = magnet_of(options.magnet or "fixed", options.center)
    if idle := sorted(given.keys() - signature(algorithm).parameters.keys()):
        flags = " or ".join(f"--{name}" for name in idle)
        raise UsageError(f"{options.algorithm} takes no {flags}: it chooses its own, try --algorithm mmd")
    return algorithms.made(options.algorithm, **given)


def _device(name: str | None) -> AbstractContextManager[Any]:
    """A context in which arrays are put on the device called `cpu`, `gpu:1`, ..."""
    if name is None:
        return nullcontext()
    kind, _, number = name.partition(":")
    try:
        return jax.default_device(jax.devices(kind)[int(number or 0)])
    except (RuntimeError, IndexError, ValueError):
        known = ", ".join(f"{device.platform}:{device.id}" for device in jax.devices())
        raise UsageError(f"no device {name!r} here, expected cpu or one of {known}") from None


def _mesh(options: Limits) -> Mesh | None:
    """The first `--devices` of the platform of `--device`; None for one device, which is the default's affair."""
    if options.devices == 1:
        return None
    if ":" in (options.device or ""):
        raise UsageError(
            f"--devices takes the first of a platform: expected --device cpu, gpu or tpu, got {options.device}"
        )
    there = jax.devices(options.device)
    if not 1 <= options.devices <= len(there):
        known = (
            f"is 1 {there[0].platform} device" if len(there) == 1 else f"are {len(there)} {there[0].platform} devices"
        )
        raise UsageError(f"expected --devices from 1 to {len(there)}: there {known} here, got {options.devices}")
    return Mesh(np.array(there[: options.devices]), ("devices",))


def _prepare(options: Limits) -> None:
    """Try every place where results will go, and what needs no game to be refused."""
    if options.resume and options.out is None:
        raise UsageError("--resume needs --out: expected the folder of the run to go on from")
    if options.trace_every < 1:
        raise UsageError(f"expected --trace-every to be at least 1 iteration, got {options.trace_every}")
    if options.out is not None:
        run_directory.prepare(options.out)
    if options.plot is not None:
        prepare_figure(options.plot)


def _say(lines: Iterable[str], *, quiet: bool = False) -> None:
    if not quiet:
        sys.stdout.writelines(f"{line}\n" for line in lines)
