"""A training run on disk: its directory, and what is done after each round.

config.yaml       every option; `mpo train --config` repeats the run
environment.json  versions, device, commit, command
metrics.jsonl     a line a round
checkpoints/      see `llm_bridge.run_state`
policy/           the result, when the run is done
result.json       status and rounds; written last
"""

import hashlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm_bridge import training_log
from llm_bridge.options import Run
from llm_bridge.policy import Policy
from llm_bridge.processes import wait_for_all
from llm_bridge.run_state import FOLDER, RunState, RunStateError
from llm_bridge.termination import Termination
from llm_bridge.training_log import TrainingLog
from llm_bridge.win_rate import WinRate
from mmd import environment
from mmd.command_line import UsageError
from mmd.files import prepare_folder, replacing

CONFIG, RESULT, MODEL = "config.yaml", "result.json", "config.json"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "transformers", "tokenizers", "safetensors")
# Options on which no number of a run depends.
FREE = ("output_dir", "resume", "quiet", "report_to", "save_steps", "save_total_limit", "mesh", "distributed")
FREE += ("judge_concurrency", "judge_timeout", "judge_key_variable", "eval_dataset_name", "eval_steps", "weights")
FAILED_FRAC, FAILED_OVER = 0.2, 50  # a judge that fails more often than this, over so many rounds, ends the run


def prepare(options: Run) -> None:
    """Make the run's directory.

    Raises:
        UsageError: there is a run in it already, and it is not to be resumed.
        OutputError: it cannot be written.
    """
    folder = prepare_folder(options.output_dir)
    if not options.resume and any((folder / name).exists() for name in (FOLDER, training_log.FILE, RESULT)):
        raise UsageError(f"{folder}: holds a run; --resume goes on with it, or choose another folder")
    if (folder / MODEL).exists():
        raise UsageError(f"{folder}: holds a model; choose another folder")
    wait_for_all("prepare")  # the first process begins to write


def record(options: Run, argv: Sequence[str]) -> None:
    """Write what is known of a run that begins or goes on; one that is refused leaves what was written before."""
    import yaml

    if jax.process_index() != 0:
        return
    folder = options.output_dir
    plain = {name: _plain(value) for name, value in asdict(options).items()} | {"resume": False}
    _replace(folder / CONFIG, yaml.safe_dump({k: v for k, v in plain.items() if v is not None}, sort_keys=False))
    known = {
        "versions": environment.versions(LIBRARIES),
        "device": environment.device(),
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "commit": environment.commit(),
        "command": list(argv),
    }
    _replace(folder / "environment.json", json.dumps(known, indent=2) + "\n")


def identity(options: Run, policy: Policy, data: Path) -> dict[str, Any]:
    """What a run's numbers depend on: options, data, and the model it begins with."""
    numbers = {name: _plain(value) for name, value in asdict(options).items() if name not in FREE}
    digest = hashlib.sha256(policy.origin.config.encode())
    for file in sorted(Path(policy.origin.folder or os.devnull).glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
    return {**numbers, "data": hashlib.sha256(data.read_bytes()).hexdigest(), "model": digest.hexdigest()}


class Keeper:
    """What is done after each round: log, save, stop.

    Args:
        options: of the run.
        states: its checkpoints.
        termination: whether it was told to stop.
        win_rate: what is measured besides; None for nothing.

    Attributes:
        reason: why it was stopped before its end; None if it was not.
    """

    def __init__(self, options: Run, states: RunState, termination: Termination, win_rate: WinRate | None = None):
        self._options, self._states, self._termination, self._win_rate = options, states, termination, win_rate
        self._newest: Any = None
        self._log: TrainingLog | None = None
        self._failed: deque[float] = deque(maxlen=FAILED_OVER)
        self._heard = False  # whether any comparison was answered, where there are any
        self.reason: str | None = None

    def resume(self, state: Any) -> Any:
        """The state to begin with: that of the newest whole checkpoint, or the given one.

        Raises:
            RunStateError: see `RunState.restore`.
        """
        saved = self._states.restore(slim(state)) if self._options.resume else None
        if not self._options.resume:
            self._states.discard()
        if saved is not None:
            state = replace(saved.state, base=state.base) if hasattr(state, "base") else saved.state
            known = training_log.rows(self._options.output_dir / training_log.FILE)
            self._failed.extend(row.get("judge/failed_frac") or 0.0 for row in known[: saved.step])
            self._heard = True  # or it would not have been saved
        self._newest = state
        return state

    @contextmanager
    def logging(self, label: str, total: int) -> Iterator[None]:
        """Inside, rounds are logged; those behind the newest state are kept.

        A win rate whose measurement was interrupted is missing in the newest of them, and is made up for.
        """
        o, done, unfinished = self._options, int(self._newest.round), self._unfinished()
        kept = done - 1 if unfinished else done
        with TrainingLog(o.output_dir, label, total, done=kept, trackers=o.report_to, quiet=o.quiet) as log:
            self._log = log
            if unfinished:
                self._write(done, unfinished)
            if jax.process_count() == 1:
                self._termination.rounds = max(self._states.steps(), default=0)
                self._termination.check()
            try:
                yield
            except Exception:
                self._rescue()
                raise
            self._log = None

    def _unfinished(self) -> dict[str, float]:
        """The metrics of the newest state's round if a win rate was to be among them and is not."""
        path, state = self._options.output_dir / training_log.FILE, self._newest
        if self._win_rate is None or not path.exists() or not int(state.round) or not self._win_rate.due(state):
            return {}
        row = next((row for row in training_log.rows(path) if row["round"] == int(state.round)), {})
        known = {name: float("nan") if value is None else value for name, value in row.items() if name != "round"}
        return {} if "eval/win_rate" in known else known

    def _write(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log a round with its win rate, or without where measuring that is interrupted."""
        measured: dict[str, float] = {}
        try:
            if self._win_rate is not None:
                self._win_rate(self._newest, measured)
        finally:
            if self._log is not None:
                self._log.write(number, {**metrics, **measured})

    def __call__(self, state: Any, metrics: Mapping[str, float]) -> bool:
        """After a round; whether the run is to end here.

        Raises:
            Terminated: it was told to stop; the state is saved.
            RunStateError: it cannot be saved.
        """
        self._termination.rounds = None
        self._newest, number = state, int(state.round)
        self._failed.append(metrics.get("judge/failed_frac", 0.0))
        self._heard = self._heard or self._failed[-1] < 1
        self._write(number, metrics)
        if number % self._options.save_steps == 0:
            self.save()
        if len(self._failed) == FAILED_OVER and np.mean(self._failed) > FAILED_FRAC:
            share = f"{np.mean(self._failed):.0%} of the judge's comparisons failed over {FAILED_OVER} rounds"
            self.reason = f"{share}, more than {FAILED_FRAC:.0%}"
            return True
        self._termination.check()
        return False

    def save(self) -> int:
        """Save the newest state, if there is one that can be; the rounds of the newest checkpoint.

        Rounds before a judge's first answer taught nothing and are not saved: a run that resumes repeats them.
        """
        state = self._newest if self._heard else None
        whole = state is not None and not any(leaf.is_deleted() for leaf in jax.tree.leaves(slim(state)))
        if state is not None and whole and int(state.round) > 0:
            self._states.save(int(state.round), slim(state))
        return max(self._states.steps(), default=0)

    def _rescue(self) -> None:
        """After an error in a round: save the rounds before it, where no other process has to help, and say so."""
        if jax.process_count() == 1:
            saved = max(self._states.steps(), default=0)
            with suppress(RunStateError):
                if (rounds := self.save()) > saved:
                    sys.stderr.write(f"mpo: rounds up to {rounds} are saved, --resume goes on\n")


def slim(state: Any) -> Any:
    """A state without the base of adapters, which never changes."""
    return replace(state, base={}) if getattr(state, "base", None) else state


def finish(folder: Path, result: Mapping[str, Any], save: Callable[[Path], object] | None) -> None:
    """Write the run's result; `save` writes its policy into a folder that is not there yet.

    What is known from finishing the same run before, such as a judge's accuracy, is kept.
    """
    if save is not None:
        new, policy = folder / ".policy.new", folder / "policy"
        if jax.process_index() == 0:
            shutil.rmtree(new, ignore_errors=True)
        save(new)
        if jax.process_index() == 0:
            shutil.rmtree(policy, ignore_errors=True)
            new.replace(policy)
    if jax.process_index() == 0:
        before = json.loads((folder / RESULT).read_text("utf-8")) if (folder / RESULT).exists() else {}
        _replace(folder / RESULT, json.dumps({"schema_version": 1, **before, **result}, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, "utf-8")


def _plain(value: Any) -> Any:
    """A value as YAML has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
