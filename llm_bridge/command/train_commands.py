"""`mpo train` and `mpo train-judge`. Whatever can be refused is refused before the first round."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llm_bridge.checkpoint import adapters, export, loading
from llm_bridge.command import model_card
from llm_bridge.command.defaults import NOTHING, lines, resolved, share_of
from llm_bridge.command.engine_choice import closing, with_engine
from llm_bridge.command.judge_choice import judge_of, local, named, try_out
from llm_bridge.command.memory_choice import fitted, thriftier
from llm_bridge.command.mesh_choice import chosen, mesh_of, policy_devices
from llm_bridge.command.method_choice import errors_of, method_of
from llm_bridge.command.options import Model, Prompts, ReportOnJudge, Run, Train, TrainJudge
from llm_bridge.command.training_run import HELD_OUT, MODEL, Keeper, finish, identity, record, working
from llm_bridge.judges.preference_model import PreferenceTraining, text_layout
from llm_bridge.measure.agreement import agreement
from llm_bridge.measure.intervals import repeats
from llm_bridge.measure.win_rate import WinRate, newest_win_rate, win_rate_lines
from llm_bridge.model.architecture import Architecture
from llm_bridge.model.compute import Compute
from llm_bridge.plan import memory
from llm_bridge.policy.policy import Policy
from llm_bridge.run import picture, processes, training_log
from llm_bridge.run.processes import SharedJudge, SharedTermination
from llm_bridge.run.run_state import RunState
from llm_bridge.run.termination import Terminated, Termination, what_is_kept
from llm_bridge.text import data, encoding
from llm_bridge.text.held_out import FEWEST, Split, distinct, split
from llm_bridge.train.baselines.sft import SFT
from llm_bridge.train.http_engine import HttpEngine
from llm_bridge.train.loop import SKIPS_IN_A_ROW, Method, Result, Status
from llm_bridge.train.rollout import Question, tokenizer
from llm_bridge.train.watch import UPDATE
from mmd.host.command_line import UsageError
from mmd.host.folder_lock import FolderLock

DONE, STOPPED_BEFORE_THE_END = 0, 3
Say = Callable[[Iterable[str]], None]


class _Guard(NamedTuple):
    """What a run is guarded by.

    Attributes:
        place: the run's directory, absolute, because a judge may change the current folder.
        termination: whether the run was told to stop.
        lock: of the directory; None where another process holds it.
        begun: what the run began with, if it goes on.
    """

    place: Path
    termination: Termination
    lock: FolderLock | None
    begun: Mapping[str, Any] = NOTHING


def train(options: Train, argv: Sequence[str], say: Say) -> int:
    """`mpo train`; the exit status."""
    _begin(options)
    place = options.output_dir.absolute()  # a judge may go elsewhere
    begun = RunState(place, None).begun_as() if options.resume else {}
    options, termination = chosen(options, say, local(options)), SharedTermination()
    method = with_engine(method_of(options), options, termination, place)
    dataset = read(options, options.dataset_name, "answers" if isinstance(method, SFT) else "prompts")
    options = share_of(options, begun, len(distinct(dataset.rows)))
    parts = _held_out(options, dataset)
    if named(options) or not isinstance(method, SFT):
        judge = termination.interrupting(judge_of(options)) if jax.process_index() == 0 else None
        method = replace(method, judge=SharedJudge(judge))
        try_out(method.judge, [row.text for row in parts.rest.rows])
    with working(options, place, termination) as lock, closing(method):
        guard = _Guard(place, termination, lock, begun)
        return _train(options, method, parts, guard, argv, say)


def _train(options: Train, method: Method, parts: Split, guard: _Guard, argv: Sequence[str], say: Say) -> int:
    """Inside the run's directory."""
    policy = policy_of(options, lora=options).with_temperature(options.temperature)
    options, judge, engine = resolved(options, policy, guard.begun), method.judge, method.engine
    method = replace(_without_start(method_of(options), options, policy), judge=judge, engine=engine)
    if isinstance(engine, HttpEngine):
        engine.dry_run(policy)
    unmeasured = _unmeasured(options, parts)
    say([*lines(options, method, policy), *_held_out_lines(options, parts), *unmeasured])
    given, longest = _given(options, policy, parts.rest, say)
    if not isinstance(method, SFT):
        longest += method.max_new_tokens
    options, method = fitted(options, policy, method, longest, say)
    win_rate, key = _win_rate(options, method, policy, parts.held_out, say), jax.random.key(options.seed)
    states, written = _states(options, policy), replace(options, output_dir=guard.place)
    keeper = Keeper(written, states, guard.termination, win_rate, guard.lock)
    try:
        with errors_of(options.method):
            state = keeper.resume(method.init(policy, key))
        if win_rate is not None:
            win_rate.draw_start()
        if not policy.is_adapted:
            _release(policy)
        record(options, argv, None if options.eval_dataset_name else parts.held_out)
        with keeper.logging(options.method, options.max_steps), errors_of(options.method):
            result = method.fit(policy, given, steps=options.max_steps, key=key, state=state, callback=keeper)
    except Terminated as stop:
        return _terminated(stop, keeper)
    if result.status is not Status.FINISHED:
        return _stopped(keeper.reason or result.reason, keeper)
    keeper.save()
    return _finish(options, method, result, guard.place, say, unmeasured)


def _without_start(method: Method, options: Train, policy: Policy) -> Method:
    """On accelerators no copy of the start is kept besides whole weights, unless one is asked for."""
    asked = any(each.startswith("watch_start=") for each in options.set)
    there_is_room = policy.is_adapted or policy.mesh.devices.flat[0].platform == "cpu"
    return method if asked or there_is_room else replace(method, watch_start=False)


def _finish(options: Train, method: Method, result: Result, place: Path, say: Say, unmeasured: Sequence[str]) -> int:
    """Write what a run has reached, with its picture, and say how far it came and why no win rate was measured."""
    rounds, save = int(result.state.round), adapters.save_adapter if result.policy.is_adapted else export.save
    measured = training_log.rows(place / training_log.FILE) if jax.process_index() == 0 else []
    card = model_card.text(replace(options, output_dir=place), method, result.policy, rounds)
    known = {"status": Status.FINISHED, "rounds": rounds, "method": options.method, **newest_win_rate(measured)}
    finish(place, known, lambda folder: save(result.policy, folder, card=card))
    said = win_rate_lines(measured)
    if jax.process_index() == 0:
        said += picture.draw(measured, place, options.output_dir)
    reached = (
        f"{Status.FINISHED}: {rounds} round{'s' * (rounds != 1)}, the policy is in {options.output_dir / 'policy'}"
    )
    say([*said, "; ".join([reached, *unmeasured])])
    return DONE


def train_judge(options: TrainJudge, argv: Sequence[str], say: Say) -> int:
    """`mpo train-judge`; the exit status."""
    _begin(options)
    dataset = data.load(options.dataset_name, kind="preferences", on_bad_row=options.on_bad_row)
    place, held_out = options.output_dir.absolute(), options.eval_dataset_name
    tested = data.load(held_out, kind="preferences", on_bad_row=options.on_bad_row).rows if held_out else ()
    termination = SharedTermination()
    with working(options, place, termination) as lock:
        return _train_judge(options, (dataset, tested), _Guard(place, termination, lock), argv, say)


def _train_judge(
    options: TrainJudge,
    datasets: tuple[data.Dataset, Sequence[data.Row]],
    guard: _Guard,
    argv: Sequence[str],
    say: Say,
) -> int:
    """Inside the run's directory."""
    dataset, tested = datasets
    policy = policy_of(options, lora=options)
    words, n_rows = tokenizer(policy.origin), options.per_device_train_batch_size
    longest = min(options.max_length, policy.architecture.max_length)
    say(_skipped(dataset.skipped))
    steps = max(1, round(options.num_train_epochs * len(dataset) / n_rows))
    training = PreferenceTraining(
        policy, text_layout(words, longest), words, steps, options.learning_rate, options.weight_decay
    )
    budget = memory.training(policy, memory.Rows(longest, 2 * n_rows, 0), copies=1)
    say(budget.lines())
    budget.check(["a smaller --per-device-train-batch-size or --max-length", *thriftier(policy)])
    keeper = Keeper(options, _states(options, policy), guard.termination, lock=guard.lock)
    try:
        state = keeper.resume(training.init(jax.random.key(options.seed)))
        record(options, argv)
        with keeper.logging("judge", steps):
            while (step := int(state.round)) < steps:
                keeper.watch.begin(UPDATE)
                rows = dataset.batch(options.seed, step * n_rows, n_rows)
                state, metrics = training.round(state, [row.comparison for row in rows])
                if keeper(state, metrics) or metrics["skipped"] >= SKIPS_IN_A_ROW:
                    return _stopped(keeper.reason or Status.NOT_FINITE, keeper)
    except Terminated as stop:
        return _terminated(stop, keeper)
    keeper.save()
    judge = training.export(state)
    report = agreement(judge, [row for row in tested if row.p_chosen != 0.5]) if tested else {}
    finish(options.output_dir, {"status": Status.FINISHED, "rounds": steps, **report}, judge.save)
    if report:
        say([_agreement_line(report)])
    say([f"{Status.FINISHED}: {steps} step{'s' * (steps != 1)}, the judge is in {options.output_dir / 'policy'}"])
    return DONE


def read(options: Prompts | ReportOnJudge, path: Path, kind: data.Kind = "prompts") -> data.Dataset:
    """A file of prompts or preferences with what their chat template is given.

    Raises:
        DataError: as of `llm_bridge.text.data.load`.
        UsageError: `--chat-template-kwargs` is no JSON object.
    """
    text, given = options.chat_template_kwargs, None
    if text is not None:
        with suppress(ValueError):
            given = json.loads(text)
        if not isinstance(given, dict):
            wanted = "a JSON object, such as '{\"enable_thinking\": false}'"
            raise UsageError(f"expected --chat-template-kwargs to be {wanted}, got {text!r}")
    return data.load(path, kind=kind, on_bad_row=options.on_bad_row, chat_template_kwargs=given)


def policy_of(options: Model, *, lora: Run | None = None) -> Policy:
    """The model, with its adapter where it is one, or a fresh one where one is to be trained.

    Raises:
        BridgeError: it cannot be loaded.
        UsageError: it is an adapter, and another one is to be trained.
    """
    place = options.model_name_or_path
    adapter = place if is_adapter(place) else None
    if adapter and lora is not None and (lora.lora_r or lora.lora_target_modules):
        raise UsageError(f"{place}: holds an adapter, which is trained further: leave --lora-r and its like out")
    remat = options.remat or ("layer" if options.gradient_checkpointing else "none")
    compute = Compute(options.compute_dtype, remat, options.attention)
    policy = loading.load(
        adapters.look(place) if adapter else place,
        mesh=mesh_of(options.mesh, policy_devices(options)),
        dtype=options.dtype,
        compute=compute,
        family=options.family,
    )
    if adapter:
        return adapters.load_adapter(policy, adapter)
    if lora is None or lora.lora_r == 0:
        return policy
    key = jax.random.fold_in(jax.random.key(lora.seed), 1)
    targets = adapters.targets_of(policy, lora.lora_target_modules)
    return adapters.add_adapter(policy, key, rank=lora.lora_r, alpha=lora.lora_alpha, targets=targets)


def is_adapter(place: str) -> bool:
    """Whether a model's folder holds an adapter and no whole model."""
    return (Path(place) / adapters.CONFIG).exists() and not (Path(place) / MODEL).exists()


def room(architecture: Architecture, max_new_tokens: int) -> int:
    """Most tokens of a prompt that so many new ones leave room for.

    Raises:
        UsageError: they leave none.
    """
    if max_new_tokens >= architecture.cached_length:
        context = f"the context of {architecture.cached_length} tokens"
        raise UsageError(f"--max-new-tokens {max_new_tokens} leaves no room for a prompt in {context}")
    return architecture.cached_length - max_new_tokens


def _given(options: Train, policy: Policy, dataset: data.Dataset, say: Say) -> tuple[list[Any], int]:
    """What the method learns from, prompts or demonstrations, shown; and the tokens of the longest."""
    words = tokenizer(policy.origin)
    if dataset.rows[0].chosen is not None:
        longest = min(options.max_prompt_length + options.max_new_tokens, policy.architecture.max_length)
        pairs, skipped = encoding.answers(dataset, words, longest=longest, on_bad_row=options.on_bad_row)
        examples = [group[0] for group in pairs]
        found: list[Any] = [(one.ids[: one.n_prompt], one.ids[one.n_prompt :]) for one in examples]
    else:
        longest = min(options.max_prompt_length, room(policy.architecture, options.max_new_tokens))
        examples, skipped = encoding.prompts(dataset, words, longest=longest, on_bad_row=options.on_bad_row)
        found = [Question(one.ids, one.row.text) for one in examples]
    say(encoding.preview(examples, words))
    say(_skipped(skipped))
    return found, max(len(one.ids) for one in examples)


def _held_out(options: Train, dataset: data.Dataset) -> Split:
    """What is learned from, and the prompts of the win rate."""
    if options.eval_dataset_name is not None:
        if not options.judge:
            raise UsageError("--eval-dataset-name needs a --judge, who says which answers win")
        return Split(dataset, read(options, options.eval_dataset_name))
    if not options.judge or not options.eval_share:
        return Split(dataset, None)
    return split(dataset, options.eval_share)


def _held_out_lines(options: Train, parts: Split) -> list[str]:
    """What is said of the prompts that are held out, if any are."""
    if options.eval_dataset_name is not None or parts.held_out is None:
        return []
    n, n_held_out = len(distinct(parts.rest.rows)) + len(parts.held_out), len(parts.held_out)
    fewest = f", the fewest that it takes (--eval-share {options.eval_share:g})" * (n_held_out == FEWEST)
    kept = f"they are in {options.output_dir / HELD_OUT}"
    return [f"{n_held_out} of {n} prompts are held out, for the win rate against the start{fewest}; {kept}"]


def _unmeasured(options: Train, parts: Split) -> list[str]:
    """Why no win rate is measured, where one is wanted and there are too few prompts."""
    if parts.held_out is not None or not options.judge or not options.eval_share:
        return []
    n = len(distinct(parts.rest.rows))
    few = f"{options.eval_share:g} of {n} prompts is {int(options.eval_share * n)} and {FEWEST} are needed"
    larger = "--eval-share or " * (n > FEWEST)
    return [f"no win rate: {few}; {larger}--eval-dataset-name FILE gives more"]


def _win_rate(
    options: Train, method: Method, policy: Policy, held_out: data.Dataset | None, say: Say
) -> WinRate | None:
    """What is measured on held-out prompts, if there are any."""
    if held_out is None:
        return None
    longest = min(options.max_prompt_length, room(policy.architecture, options.max_new_tokens))
    words = tokenizer(policy.origin)
    examples, skipped = encoding.prompts(held_out, words, longest=longest, on_bad_row=options.on_bad_row)
    say(_skipped(skipped))
    prompts = [Question(one.ids, one.row.text) for one in examples]
    source = options.eval_dataset_name or f"held out of {options.dataset_name}"
    say([f"{source}: {line}" for line in repeats([one.ids for one in examples])])
    key = jax.random.fold_in(jax.random.key(options.seed), 2)
    return WinRate(method, policy, prompts, every=options.eval_steps, key=key, last=options.max_steps)


def _begin(options: Model) -> None:
    if options.distributed:
        processes.begin()


def _states(options: Run, policy: Policy) -> RunState:
    known = identity(options, policy, getattr(options, "dataset_name"))  # noqa: B009 - of Data
    return RunState(options.output_dir, known, keep=options.save_total_limit, remedies=_lengths(options))


def _lengths(options: Run) -> dict[str, str]:
    """Why a run cannot be made longer or shorter, and what can be done."""
    why = "a run keeps its length, over which the learning rate falls to 0"
    export = f"mpo export {options.output_dir} --output-dir FOLDER"
    return {
        "eval_share": "which prompts are held out stays as it was: give --eval-share and --eval-dataset-name as before",
        "max_steps": f"{why}: to go further, {export} and begin a new run with --model-name-or-path FOLDER",
        "num_train_epochs": f"{why}: begin a new one in another folder",
    }


def _release(policy: Policy) -> None:
    """Give back the memory of weights of which training has its own copies."""
    for array in policy.arrays().values():
        array.delete()


def _skipped(skipped: Sequence[str]) -> list[str]:
    return [f"{len(skipped)} rows are left out, the first is {skipped[0]}"] if skipped else []


def _agreement_line(report: dict[str, float]) -> str:
    interval, pairs = f"[{report['accuracy_low']:.3f}, {report['accuracy_high']:.3f}]", f"{report['n']:.0f} pairs"
    return (
        f"accuracy {report['accuracy']:.3f} {interval} on {pairs}, distinct prompts: {report['prompts']:.0f}; "
        f"by length alone {report['length_only']:.3f}, majority {report['majority']:.3f}"
    )


def _terminated(stop: Terminated, keeper: Keeper) -> int:
    sys.stderr.write(f"mpo: told to stop by {stop}, {what_is_kept(keeper.save())}\n")
    return 128 + stop.signal


def _stopped(status: str, keeper: Keeper) -> int:
    if status == Status.DIVERGED:
        kept = "take a smaller --learning-rate, or a smaller --eta, in a new run"
    elif status == Status.MAGNET_STAYED and keeper.save():
        kept = "mpo export RUN --weights last --output-dir FOLDER writes the last iterate"
    elif rounds := keeper.save():
        kept = f"rounds up to {rounds} are saved, --resume goes on"
    else:
        kept = "there is nothing to save, --resume begins anew"
    sys.stderr.write(f"mpo: {status}; {kept}\n")
    return STOPPED_BEFORE_THE_END
