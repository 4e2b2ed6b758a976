"""One training run of the race, in a folder of its own: killed at any time, it goes on bit for bit.

metrics.jsonl   a line a round, with the answers that the policy gave in it and their classes
checkpoints/    see `llm_bridge.run.run_state`; gone when the run is done
policy/         the adapter, as PEFT has it
result.json     written last

The loop is the package's (`Method.fit`). What is added is a pair of ears: `heard` makes a class of the same method
whose arena remembers what the policy has answered, because a judge hears of different answers only.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from jaxtyping import Array, Key

import llm_bridge as bridge
from benchmarks.real_model.race import plan
from benchmarks.real_model.race.forms import class_of
from benchmarks.real_model.race.plan import Run, Setting
from benchmarks.real_model.race.reader import Reader, chat, is_fluent, own_likelihood
from llm_bridge.checkpoint.adapters import save_adapter
from llm_bridge.command.training_run import slim
from llm_bridge.judges import Judge
from llm_bridge.policy.policy import Policy
from llm_bridge.run.run_state import RunState
from llm_bridge.run.training_log import continued
from llm_bridge.text.tokenizer import Tokenizer
from llm_bridge.train.arena import Arena, Samples, Source
from llm_bridge.train.loop import Method
from llm_bridge.train.result import Status
from llm_bridge.train.rollout import Question
from llm_bridge.train.train_state import TrainState

METRICS, RESULT, POLICY = "metrics.jsonl", "result.json", "policy"
EVERY = 4  # rounds between two checkpoints
Late = Callable[[], bool]
Say = Callable[[int, float], None]


class Ears:
    """What was heard in a round.

    Attributes:
        rows: token ids of the first answers that were drawn, those of the policy itself.
        log_probs: of their tokens by the policy.
        prompts: of each, as shown.
        samples: answers that were drawn in all.
        comparisons: that the judge was asked for or that were ties of equal answers.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.log_probs: list[list[float]] = []
        self.prompts: list[str] = []
        self.samples = self.comparisons = 0


EARS = Ears()


class _Heard:
    """An arena that is listened to."""

    def __init__(self, arena: Any):
        self._arena, self._given = arena, [str(question.shown) for question in arena._given]
        EARS.__init__()

    def draw(self, source: Source, n: int, key: Key[Array, ""]) -> Samples:
        samples = self._arena.draw(source, n, key)
        tokens, mask = np.asarray(samples.tokens), np.asarray(samples.response)
        EARS.samples += len(tokens)
        if not EARS.rows:
            EARS.rows = [tuple(row[marked].tolist()) for row, marked in zip(tokens, mask, strict=True)]
            logs = zip(np.asarray(samples.log_probs), mask, strict=True)
            EARS.log_probs = [row[marked].tolist() for row, marked in logs]
            EARS.prompts = [prompt for prompt in self._given for _ in range(n)]
        return samples

    def compare(self, ours: Samples, theirs: Samples | None = None) -> Any:
        found = self._arena.compare(ours, theirs)
        n_prompts, n, m = found.shape
        EARS.comparisons += n_prompts * (n * (n - 1) // 2 if theirs is None else n * m)
        return found


@cache
def _heard_class(kind: type[Method]) -> type[Method]:
    def play(self: Any, state: Any, arena: Arena) -> Any:
        return kind.play(self, state, _Heard(arena))

    return type(kind.__name__, (kind,), {"play": play, "draws_once": kind.play is Method.play})


def heard(method: Method) -> Method:
    """The same method, which remembers in `EARS` what its policy answers."""
    kind = type(method)
    return _heard_class(kind)(**{field.name: getattr(method, field.name) for field in fields(kind)})  # type: ignore[arg-type]


def start_policy(base: Policy, seed: int) -> Policy:
    """Where a run begins: the tempered model with a fresh adapter."""
    tempered = base.with_temperature(plan.TEMPERATURE)
    return bridge.add_adapter(tempered, jax.random.key(seed), rank=plan.RANK, alpha=plan.SCALE)


def questions(words: Tokenizer, prompts: list[str]) -> list[Question]:
    """As policies read them and judges see them."""
    return [Question(tuple(chat(words, prompt)), prompt) for prompt in prompts]


def is_done(folder: Path) -> bool:
    """Whether the run of a folder is finished."""
    return (folder / RESULT).exists()


def rounds_done(folder: Path) -> int:
    """Rounds that a folder has a line of."""
    path = folder / METRICS
    return len(path.read_text("utf-8").splitlines()) if path.exists() else 0


class Listener:
    """After each round: a line of the log, a checkpoint if one is due, and whether the time is over.

    Args:
        run: which.
        reader: of the answers.
        states: checkpoints.
        log: open for writing.
        late: whether the time is over.
        say: told the rounds that are done, and the processor seconds of the last one.
    """

    def __init__(self, run: Run, reader: Reader, states: RunState, log: TextIO, late: Late, say: Say):
        self._run, self._reader, self._states, self._log = run, reader, states, log
        self._late, self._say, self._began = late, say, time.process_time()

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> bool:
        """Log a round, save if that is due; whether to stop."""
        number = int(state.round)
        row = {"round": number, **metrics, **self._heard()}
        took = time.process_time() - self._began
        self._log.write(json.dumps(row | {"processor_seconds": took}) + "\n")
        self._log.flush()
        stop = self._late() and number < self._run.rounds
        if stop or number % EVERY == 0:
            self._states.save(number, slim(state))
        self._say(number, took)
        self._began = time.process_time()
        return stop

    def _heard(self) -> dict[str, Any]:
        """What the policy answered, and what the start model finds of it."""
        words, prompts = self._reader.words, EARS.prompts
        texts = [words.decode(ids) for ids in EARS.rows]
        found = self._reader(prompts, texts)
        self._reader.known.clear()
        drawn = zip(EARS.rows, EARS.log_probs, texts, strict=True)
        apart = np.array([own_likelihood(words, *one) for one in drawn]) - [read.total for read in found]
        known = apart[np.isfinite(apart)]
        return {
            "samples": EARS.samples,
            "comparisons": EARS.comparisons,
            "classes": [class_of(text, is_fluent(read)) for text, read in zip(texts, found, strict=True)],
            "divergence": float(known.mean()) if len(known) else None,
            "nats": -float(np.mean([sum(logs) for logs in EARS.log_probs])),
            "answers": texts,
        }


def train(
    run: Run,
    setting: Setting,
    judge: Judge,
    start: tuple[Policy, Reader],
    prompts: list[str],
    folder: Path,
    late: Late,
    say: Say,
) -> bool:
    """Go on with a run until it is done or it is late; whether it is done.

    Args:
        run: which.
        setting: its numbers.
        judge: of its population.
        start: the model without an adapter at temperature 1, and the reader that it is.
        prompts: of the training.
        folder: of the run.
        late: whether the time is over.
        say: told the rounds that are done, and the processor seconds of the last one.
    """
    base, reader = start
    policy, key = start_policy(base, run.seed), jax.random.key(run.seed)
    method = heard(plan.method_of(run, setting, judge))
    states = RunState(folder, {"run": run.name, "setting": setting.name}, keep=1)
    state = method.init(policy, key)
    saved = states.restore(slim(state))
    state = state if saved is None else replace(saved.state, base=state.base)
    asked = questions(reader.words, prompts)
    with continued(folder / METRICS, int(state.round)) as log:
        listener = Listener(run, reader, states, log, late, say)
        result = method.fit(policy, asked, steps=run.rounds, key=key, state=state, callback=listener)
    if result.status is Status.STOPPED:
        return False
    shutil.rmtree(folder / POLICY, ignore_errors=True)
    save_adapter(result.policy, folder / POLICY)
    ended = {"run": run.name, "setting": setting.name, "rounds": int(result.state.round), "status": result.reason}
    (folder / RESULT).write_text(json.dumps(ended, indent=1) + "\n", "utf-8")
    states.discard()
    return True
