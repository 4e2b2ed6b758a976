"""A training run on disk: its directory, and what is done after each round.

.lock             while a process works in it, see `mmd.host.folder_lock`
config.yaml       every option; `mpo train --config` repeats the run
environment.json  versions, device, commit, command
held_out.jsonl    the prompts that were held out, if any were
metrics.jsonl     a line a round; round 0 is before the first
samples.jsonl     the answers that each win rate is made of
checkpoints/      see `llm_bridge.run.run_state`
engine/           weights that an engine was given; empty when the run is done
policy/           the result, when the run is done
training.png      win rate, divergence and lengths along the rounds
result.json       status and rounds; written last
"""

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from llm_bridge.checkpoint.adapters import FILE as ADAPTER
from llm_bridge.command.judge_choice import recorded
from llm_bridge.command.options import Run
from llm_bridge.measure.win_rate import WinRate
from llm_bridge.policy.policy import Policy
from llm_bridge.run import training_log
from llm_bridge.run.phases import CHECKPOINT, EVAL
from llm_bridge.run.processes import on_first, told, wait_for_all
from llm_bridge.run.run_state import FOLDER, RunState, RunStateError
from llm_bridge.run.termination import Termination
from llm_bridge.run.training_log import TrainingLog
from llm_bridge.text.data import KWARGS, Dataset
from llm_bridge.text.data import digest as digest_of
from mmd.host import environment
from mmd.host.command_line import UsageError, options_of
from mmd.host.files import OutputError, prepare_folder, replacing
from mmd.host.folder_lock import FolderLock, held

CONFIG, RESULT, MODEL, HELD_OUT = "config.yaml", "result.json", "config.json", "held_out.jsonl"
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "transformers", "tokenizers", "safetensors")
# Options on which no number of a run depends.
FREE = ("output_dir", "resume", "quiet", "report_to", "save_steps", "save_minutes", "save_total_limit")
FREE += ("mesh", "distributed", "remat", "attention")
FREE += (
    "judge_mesh",
    "judge_concurrency",
    "judge_timeout",
    "judge_key_variable",
    "eval_dataset_name",
    "eval_steps",
    "weights",
)
FREE += ("engine", "engine_model", "engine_folder", "engine_timeout", "engine_key_variable")
# Options that version 0.1 had not, with what it did; so one of its runs goes on where nothing else is asked for.
SINCE = {
    "eval_share": 0.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "lora_target_modules": [],
    "temperature": 1.0,
    "max_staleness": 0,
    "spread_draws": False,
}
FAILED_FRAC, FAILED_OVER = 0.2, 50  # a judge that fails more often than this, over so many rounds, ends the run
WAITED_FOR = 20.0  # seconds of a round, and of writing its checkpoint, that SIGTERM leaves time for
BEHIND: tuple[str, ...] = (
    "gpu",
    "tpu",
)  # where checkpoints are written while rounds go on: there the processor has nothing else to do
WRITING_SHARE = 0.1  # of the time, at most, for checkpoints of single rounds


@contextmanager
def working(options: Run, place: Path, termination: Termination) -> Iterator[FolderLock | None]:
    """Make the run's directory; inside, no other process works in it, and signals are heard.

    Args:
        options: of the run.
        place: the directory, absolute.
        termination: which hears.

    Yields:
        Its lock; None in all processes but the first, which holds it for them.

    Raises:
        UsageError: there is a run in it already, and it is not to be resumed.
        OutputError: it cannot be written, or another process works in it.
    """
    prepare_folder(place)
    folder = options.output_dir
    with ExitStack() as stack:
        lock = on_first(lambda: stack.enter_context(held(place, "mpo", shown=folder)))
        if not options.resume and any((place / name).exists() for name in (FOLDER, training_log.FILE, RESULT)):
            raise UsageError(f"{folder}: holds a run; --resume goes on with it, or choose another folder")
        if (place / MODEL).exists():
            raise UsageError(f"{folder}: holds a model; choose another folder")
        wait_for_all("prepare")  # the first process begins to write
        if jax.process_count() == 1:  # or one would leave the others alone
            termination.rounds = max(RunState(place, None).steps(), default=0)
        stack.enter_context(termination.listening())
        yield lock


def record(options: Run, argv: Sequence[str], held_out: Dataset | None = None) -> None:
    """Write what is known of a run that begins or goes on; one that is refused leaves what was written before.

    Args:
        options: of the run, with the numbers that were not given.
        argv: the command line.
        held_out: the prompts that were held out; None for none.
    """
    import yaml

    if jax.process_index() != 0:
        return
    folder = options.output_dir
    named = options_of(type(options)).items()
    plain = {typed: _plain(getattr(options, name)) for typed, name in named} | recorded(options) | {"resume": False}
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
    if held_out is not None:
        rows = ({"prompt": row.prompt, KWARGS: dict(row.chat_template_kwargs)} for row in held_out.rows)
        lines = (json.dumps({name: value for name, value in row.items() if value}) + "\n" for row in rows)
        _replace(folder / HELD_OUT, "".join(lines))


def identity(options: Run, policy: Policy, dataset: Path) -> dict[str, Any]:
    """What a run's numbers depend on: options, data, and the model it begins with."""
    digest = hashlib.sha256(policy.origin.config.encode())
    for file in sorted(Path(policy.origin.folder or os.devnull).glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
    adapter = Path(getattr(options, "model_name_or_path", "")) / ADAPTER
    if adapter.exists():
        digest.update(hashlib.sha256(adapter.read_bytes()).digest())
    return {**numbers_of(options), "data": digest_of(dataset), "model": digest.hexdigest()}


def numbers_of(options: Run) -> dict[str, Any]:
    """The options that a run's numbers depend on; one that does what version 0.1 did is left out."""
    plain = {name: _plain(value) for name, value in asdict(options).items()} | recorded(options)
    numbers = {name: value for name, value in plain.items() if name not in FREE}
    if getattr(options, "eval_dataset_name", None) is not None or not getattr(options, "judge", ()):
        numbers.pop("eval_share", None)  # then nothing is held out
    return {name: value for name, value in numbers.items() if name not in SINCE or value != SINCE[name]}


class Keeper:
    """What is done after each round: log, save, stop.

    A checkpoint is due every `save_steps` rounds and every `save_minutes`. Where rounds last too long to be waited for
    when the process is told to stop, a checkpoint is due after each of them, as far as checkpoints take no more than a
    tenth of the time.

    Args:
        options: of the run.
        states: its checkpoints.
        termination: whether it was told to stop.
        win_rate: what is measured besides; None for nothing.
        lock: of the run's directory; None where another process holds it.

    Attributes:
        reason: why it was stopped before its end; None if it was not.
    """

    def __init__(
        self,
        options: Run,
        states: RunState,
        termination: Termination,
        win_rate: WinRate | None = None,
        lock: FolderLock | None = None,
    ):
        self._options, self._states, self._termination, self._win_rate = options, states, termination, win_rate
        self._lock = lock
        self._newest: Any = None
        self._log: TrainingLog | None = None
        self._unlogged: tuple[int, Mapping[str, float]] | None = None  # a round whose win rate is being measured
        self._failed: deque[float] = deque(maxlen=FAILED_OVER)
        self._cut = False  # whether it has been said that all answers of a round were cut
        self._heard = False  # whether any comparison was answered, where there are any
        self._saving = threading.RLock()
        self._writing = 0.0  # seconds that the newest checkpoint took
        self._round_began = self._saved_at = time.monotonic()
        self.reason: str | None = None

    def resume(self, state: Any) -> Any:
        """The state to begin with: that of the newest whole checkpoint, or the given one.

        Raises:
            RunStateError: every checkpoint is damaged; the newest whole one is of another run; there is none of a run
                that has ended; or the disk has no room for the run's checkpoints.
            BridgeError: the run's log is damaged.
        """
        saved = self._states.restore(slim(state)) if self._options.resume else None
        if saved is None and self._options.resume and (self._options.output_dir / RESULT).exists():
            found = f"{self._options.output_dir}: holds a run that has ended, and no checkpoint of it to go on from"
            raise RunStateError(f"{found}; choose another folder")
        if not self._options.resume:
            self._states.discard()
        self._states.check_room(slim(state))
        if saved is not None:
            state = replace(saved.state, base=state.base) if hasattr(state, "base") else saved.state
            known = self._logged(saved.step)
            self._failed.extend(row.get("judge/failed_frac") or 0.0 for row in known if 0 < row["round"] <= saved.step)
            self._heard = True  # or it would not have been saved
        self._newest = state
        return state

    def _logged(self, rounds: int) -> list[dict[str, Any]]:
        """What is logged of so many rounds that are behind; where the log is gone it is said, and the run goes on."""
        path = self._options.output_dir / training_log.FILE
        if rounds and not path.exists() and jax.process_index() == 0:
            behind = "round 1" if rounds == 1 else f"rounds 1 to {rounds}"
            sys.stderr.write(f"mpo: {path}: is not there, so {behind} will be missing in it; the run goes on\n")
        return training_log.rows(path)

    @contextmanager
    def logging(self, label: str, total: int) -> Iterator[None]:
        """Inside, rounds are logged; those behind the newest state are kept.

        A win rate that is due before the first round, or whose measurement was interrupted and which is missing in the
        newest round that is kept, is measured first.
        """
        o, done, unfinished = self._options, int(self._newest.round), self._unfinished()
        kept = done if unfinished is None else done - 1
        with TrainingLog(o.output_dir, label, total, done=kept, trackers=o.report_to, quiet=o.quiet) as log:
            self._log = log
            self._termination.doing = log.phases.doing
            if unfinished is not None:
                self._write(done, unfinished)
            self._termination.check()
            self._termination.kept, self._termination.rescue = self._kept, self._saved_aside
            self._round_began = self._saved_at = time.monotonic()
            try:
                yield
            except Exception:
                self._rescue()
                raise
            self._states.settle()
            self._log = None

    def _unfinished(self) -> dict[str, float] | None:
        """The metrics of the newest state's round if a win rate was to be among them and is not; None otherwise."""
        path, state = self._options.output_dir / training_log.FILE, self._newest
        if self._win_rate is None or not self._win_rate.due(state):
            return None
        number = int(state.round)
        row = next((row for row in training_log.rows(path) if row["round"] == number), None)
        if row is None:
            return {} if number == 0 else None
        known = {name: float("nan") if value is None else value for name, value in row.items() if name != "round"}
        return None if "eval/win_rate" in known else known

    @property
    def watch(self) -> "Keeper":
        """Who is told what a round is doing; see `llm_bridge.train.watch.Watch`."""
        return self

    def begin(self, phase: str) -> None:
        """A phase of a round begins: a safe place to end the run, where the state of before the round is still there.

        Raises:
            Terminated: it was told to stop; the round is lost and nothing else.
        """
        if self._log is not None:
            self._log.phases.begin(phase)
        if not _is_used_up(self._newest):
            self._termination.check()

    def count(self, phase: str, tokens: int) -> None:
        """So many tokens more go through a phase."""
        if self._log is not None:
            self._log.phases.count(phase, tokens)

    @contextmanager
    def _during(self, phase: str) -> Iterator[None]:
        """Inside is a phase between rounds."""
        with nullcontext() if self._log is None else self._log.phases.during(phase):
            yield

    def _write(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log a round with its win rate, or without where measuring that is interrupted."""
        measured: dict[str, float] = {}
        self._unlogged = (number, metrics)
        try:
            if self._win_rate is not None and self._win_rate.due(self._newest):
                with self._during(EVAL):
                    self._win_rate(self._newest, measured)
                if self._log is not None:
                    self._log.write_samples(number, self._win_rate.samples)
        finally:
            self._log_once(measured)

    def _log_once(self, measured: Mapping[str, float]) -> None:
        with self._saving:
            if self._log is not None and self._unlogged is not None:
                number, metrics = self._unlogged
                self._log.write(number, {**metrics, **measured, **self._log.phases.lap()})
            self._unlogged = None

    def __call__(self, state: Any, metrics: Mapping[str, float]) -> bool:
        """After a round; whether the run is to end here.

        Raises:
            Terminated: it was told to stop; the state is saved.
            RunStateError: it cannot be saved.
            OutputError: another process has taken the run's directory over.
        """
        self._termination.rounds = None
        if self._log is not None:
            self._log.phases.begin(None)
        with self._saving:
            self._newest, number = state, int(state.round)
        self._failed.append(metrics.get("judge/failed_frac", 0.0))
        self._heard = self._heard or self._failed[-1] < 1
        self._write(number, metrics)
        self._say_once_if_cut(number, metrics)
        if self._is_due(number):
            with self._during(CHECKPOINT):
                self.save(behind=jax.default_backend() in BEHIND)
        self._round_began = time.monotonic()
        if len(self._failed) == FAILED_OVER and np.mean(self._failed) > FAILED_FRAC:
            share = f"{np.mean(self._failed):.0%} of the judge's comparisons failed over {FAILED_OVER} rounds"
            self.reason = f"{share}, more than {FAILED_FRAC:.0%}"
            return True
        self._termination.check()
        return False

    def _say_once_if_cut(self, number: int, metrics: Mapping[str, float]) -> None:
        """Say so where no answer of a round ended before its most tokens; in the first such round alone."""
        most = getattr(self._options, "max_new_tokens", None)
        if self._cut or most is None or self._log is None or metrics.get("response_length", 0) < (1 - 1e-6) * most:
            return
        self._cut = True
        self._log.reporter.say(f"round {number}: all answers were cut at --max-new-tokens {most}")

    def _is_due(self, number: int) -> bool:
        """Whether a checkpoint is, as the first process's clock has it."""
        now, most = time.monotonic(), 60 * self._options.save_minutes
        if now - self._round_began + self._writing > WAITED_FOR:
            most = min(most, self._writing / WRITING_SHARE)
        due = number % self._options.save_steps == 0 or now - self._saved_at >= most
        return bool(told(np.array([due]))[0])

    def save(self, *, behind: bool = False) -> int:
        """Save the newest state, if there is one that can be; the rounds of the newest checkpoint.

        Rounds before a judge's first answer taught nothing and are not saved: a run that resumes repeats them.

        Args:
            behind: go on as soon as the state has been copied, while it is written.

        Raises:
            RunStateError: it cannot be saved.
            OutputError: another process has taken the run's directory over.
        """
        with self._saving:
            state = self._newest if self._heard else None
            if state is not None and not _is_used_up(state) and int(state.round) > 0:
                self._commit(int(state.round), slim(state), behind=behind)
            return self._kept()

    def _commit(
        self, number: int, state: Any, copies: Sequence[np.ndarray] | None = None, *, behind: bool = False
    ) -> None:
        if self._lock is not None:
            self._lock.check()
        began = time.monotonic()
        self._states.save(number, state, copies=copies, behind=behind)
        self._saved_at = time.monotonic()
        self._writing = self._saved_at - began

    def _kept(self) -> int:
        """The rounds of the newest checkpoint."""
        return max(self._states.steps(), default=0)

    def _saved_aside(self) -> int | None:
        """By another thread, while the main one is in a round: save the rounds before it, and log the newest of them.

        Returns:
            The rounds of the newest checkpoint. None where it would need other processes, or an update is overwriting
            the state: of arrays that are still there after all were copied, every copy is whole.
        """
        if jax.process_count() > 1 or self._newest is None:
            return None
        with self._saving, suppress(RunStateError, OutputError):
            number, state = int(self._newest.round), slim(self._newest)
            if self._heard and number > self._kept():
                try:
                    copies = [np.array(leaf) for leaf in jax.tree.leaves(state)]
                except RuntimeError:  # deleted
                    return None
                if _is_used_up(state):
                    return None
                self._log_once({})
                self._commit(number, state, copies)
            return self._kept()
        return None

    def _rescue(self) -> None:
        """After an error in a round: save the rounds before it, where no other process has to help, and say so."""
        if jax.process_count() == 1:
            saved = self._kept()
            with suppress(RunStateError, OutputError):
                if (rounds := self.save()) > saved:
                    sys.stderr.write(f"mpo: rounds up to {rounds} are saved, --resume goes on\n")


def _is_used_up(state: Any) -> bool:
    """Whether an update has overwritten some of it."""
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(slim(state)))


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
        before: Any = {}
        with suppress(FileNotFoundError, ValueError):  # a damaged one is replaced
            before = json.loads((folder / RESULT).read_text("utf-8"))
        before = before if isinstance(before, dict) else {}
        _replace(folder / RESULT, json.dumps({"schema_version": 1, **before, **result}, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, "utf-8")


def _plain(value: Any) -> Any:
    """A value as YAML has it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
