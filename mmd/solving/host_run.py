"""The run of an algorithm that has its own loop, on the host: what `mmd.solve` does at each of its reports."""

import os
import time
from numbers import Integral

import numpy as np

from mmd.algorithms.contract import ITERATES, HostAlgorithm, Limits, asked, describe, resolved
from mmd.game.game import Game, GameError
from mmd.game.policy import Policy
from mmd.host.files import discard_parts, prepare_file
from mmd.host.folder_lock import refuse_if_held
from mmd.measure.certificate import cells_of, certify
from mmd.measure.solution import TRACE_COLUMNS, Certified, OnCheck, Solution, Status, Trace
from mmd.solving.checkpoint import CheckpointError
from mmd.solving.stopping import Standing, why_to_stop


def solve(
    game: Game,
    algorithm: HostAlgorithm,
    limits: Limits,
    on_check: OnCheck | None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Solution:
    """Run a host algorithm; arguments, result and errors as of `mmd.solve`.

    Raises:
        GameError: the algorithm is not defined on this game, or breaks its contract.
        CheckpointError: resuming is asked for, and the checkpoint there is of another algorithm: this one writes none.
        OutputError: the checkpoint of the run before cannot be removed, or another process is writing it.
    """
    algorithm = resolved(algorithm, game)
    if checkpoint is not None:
        _start_anew(algorithm, checkpoint, resume=resume)
    reports = _Reports(game, algorithm, limits, on_check)
    try:
        asked(algorithm, "run", algorithm.run, game, limits, reports)
    except KeyboardInterrupt:
        reports.status = reports.status or Status.INTERRUPTED
    except GameError:
        if reports.of_on_check is not None:  # of who called `solve`, not of the algorithm
            raise reports.of_on_check from None
        raise
    return reports.solution()


def _start_anew(algorithm: HostAlgorithm, checkpoint: str | os.PathLike[str], *, resume: bool) -> None:
    """Remove what a run before left, unless there is a run to go on with: that one is of another algorithm."""
    path = prepare_file(checkpoint, (".npz",))
    refuse_if_held(path.parent, path.name)
    if resume and path.exists():
        raise CheckpointError(
            f"{path}: cannot resume {algorithm.name}, which keeps no checkpoint: this one is of another algorithm; "
            "start without resuming to replace it"
        )
    path.unlink(missing_ok=True)
    discard_parts(path)


class _Reports:
    """The `Report` of one run: the trace, the policy to return, and the reason to stop."""

    def __init__(self, game: Game, algorithm: HostAlgorithm, limits: Limits, on_check: OnCheck | None) -> None:
        self.game, self.algorithm, self.limits, self.on_check = game, algorithm, limits, on_check
        self.begun, self.cells = time.perf_counter(), cells_of(game)
        self.trace: list[dict[str, float]] = []
        self.kept: Certified | None = None
        self.status: Status | None = None
        self.of_on_check: BaseException | None = None

    def __call__(self, policy: Policy, *, iterate: str, iteration: int, gradient_evaluations: int) -> Status | None:
        """Certify the policy, append a row to the trace, and say why to stop; None to go on."""
        if self.status is not None:
            return self.status
        if iterate not in ITERATES:
            raise GameError(f"{self.algorithm.name} reported the iterate {iterate!r}: expected {', '.join(ITERATES)}")
        if not isinstance(policy, Policy):
            raise GameError(
                f"{self.algorithm.name} reported an object of class {type(policy).__name__}: expected a mmd.Policy"
            )
        for name, count in (("iteration", iteration), ("gradient_evaluations", gradient_evaluations)):
            if not isinstance(count, Integral):
                raise GameError(f"{self.algorithm.name} reported the {name} {count!r}: expected an integer")
        if not all(np.isfinite(p).all() for p in policy.probabilities):
            self.status = Status.NONFINITE
            return self.status
        found = Certified(policy, iterate, certify(self.game, policy.probabilities, cells=self.cells))
        kept = found
        if self.kept is not None and self.algorithm.keeps_best:
            kept = min(self.kept, found, key=lambda one: one.certificate.nash_conv)
        self.kept = kept
        row = self._row(kept, iteration, gradient_evaluations)
        self.trace.append(row)
        try:
            if self.on_check is not None:
                self.on_check(row)
        except KeyboardInterrupt:
            self.status = Status.INTERRUPTED
            return self.status
        except (Exception, SystemExit) as error:
            self.of_on_check = error
            raise
        standing = Standing(row, row["seconds"], certificates=(kept.certificate,))
        self.status = why_to_stop(standing, self.limits)
        return self.status

    def _row(self, kept: Certified, iteration: int, gradient_evaluations: int) -> dict[str, float]:
        """The row of the trace; seconds since the start of the run, certificates included."""
        numbers = (
            float(iteration),
            float(gradient_evaluations),
            time.perf_counter() - self.begun,
            kept.certificate.exploitability,
            kept.certificate.nash_conv,
            np.nan,
            kept.certificate.value,
            np.nan,
        )
        return dict(zip(TRACE_COLUMNS, numbers, strict=True))

    def solution(self) -> Solution:
        """The kept policy with everything that is known about the run; uniform play if Ctrl-C came before a report."""
        if self.kept is None:
            if self.status is None:
                raise GameError(f"{self.algorithm.name} ended on {self.game.name} without a report")
            row, column = (np.exp(player.uniform()) for player in self.game.players)
            uniform = Policy(self.game, (row, column))
            self.kept = Certified(uniform, "last", certify(self.game, uniform.probabilities))
        newest = self.trace[-1] if self.trace else dict.fromkeys(TRACE_COLUMNS, 0.0)
        certificate = self.kept.certificate
        return Solution(
            game=self.game,
            algorithm=describe(self.algorithm),
            policy=self.kept.policy,
            iterate=self.kept.iterate,
            status=self.status or Status.ENDED,
            tolerance=self.limits.bound(certificate),
            value=certificate.value,
            nash_conv=certificate.nash_conv,
            regularized_gap=None,
            iterations=int(newest["iteration"]),
            gradient_evaluations=int(newest["gradient_evaluations"]),
            seconds={"compile": 0.0, "solve": time.perf_counter() - self.begun},
            dtype="float64",
            trace=Trace({c: np.array([row[c] for row in self.trace]) for c in TRACE_COLUMNS}),
        )
