"""What the `mpo` command does, subcommand by subcommand; training is in `llm_bridge.command.train_commands`."""

import json
import platform
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from llm_bridge.checkpoint import adapters, export, gguf_files, loading
from llm_bridge.command import (
    answering,
    exploit_command,
    model_card,
    plan_command,
    report_command,
    serve_command,
    training_run,
)
from llm_bridge.command.config_file import expanded
from llm_bridge.command.judge_choice import judge_of, judged_by, try_out
from llm_bridge.command.method_choice import MethodError, method_of
from llm_bridge.command.options import (
    PROGRAM,
    Command,
    Env,
    Eval,
    Exploit,
    Export,
    Generate,
    Import,
    Plan,
    Report,
    ReportOnJudge,
    Run,
    Serve,
    Train,
    TrainJudge,
)
from llm_bridge.command.report_command import EVAL, REPORT, VERDICTS
from llm_bridge.command.train_commands import policy_of, read, room, train, train_judge
from llm_bridge.judges import JudgeError
from llm_bridge.measure.evaluation import Tournament, tournament
from llm_bridge.measure.intervals import repeats
from llm_bridge.measure.judge_report import judge_report
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import SettingError, flags
from llm_bridge.run.processes import connected
from llm_bridge.run.run_state import RunState
from llm_bridge.run.samples import when
from llm_bridge.text import data, encoding
from llm_bridge.train.rollout import tokenizer
from mmd.host import environment
from mmd.host.command_line import UsageError, parse
from mmd.host.files import OutputError, prepare_file, prepare_folder, replacing
from mmd.host.folder_lock import held

DONE = 0
ANSWERS, TRACEBACKS = "answers", {JudgeError: "judge_error.txt", MethodError: "method_error.txt"}
OPTIONAL_LIBRARIES = ("gguf", "httpx2", "pyarrow", "tensorboardX", "wandb")
Say = Callable[[Iterable[str]], None]


def run(command: Command, argv: Sequence[str]) -> int:
    """Carry out a command and return the exit status.

    Args:
        command: what to do.
        argv: the command line it was parsed from, to be recorded.

    Raises:
        UsageError: the input is bad; the message is one sentence.
    """
    carry_out: dict[type, Callable[[Any, Sequence[str], Say], int]] = {
        Train: train,
        TrainJudge: train_judge,
        Generate: _generate,
        Eval: _eval,
        ReportOnJudge: _judge_report,
        Exploit: exploit_command.exploit,
        Serve: serve_command.serve,
        Report: report_command.report,
        Plan: plan_command.plan,
        Export: _export,
        Import: _import,
        Env: _env,
    }
    quiet = isinstance(command, Run) and command.quiet
    place = command.output_dir if isinstance(command, Run) and not command.output_dir.exists() else None
    folder = getattr(command, "output_dir", None)
    home = None if folder is None else folder.absolute()  # a judge may go elsewhere
    try:
        with _warnings_in_one_line(), connected():
            return carry_out[type(command)](command, ["mpo", *argv], _say_nothing if quiet else _say)
    except (BridgeError, OutputError, UsageError) as error:
        if place is not None:
            with suppress(OSError):
                place.rmdir()  # made for a run that is refused; one that has something in it stays
        text = error.called(flags(command)) if isinstance(error, SettingError) else str(error)
        kept = _traceback_kept(error, home, folder) if isinstance(error, JudgeError | MethodError) else ""
        raise UsageError(f"{text}{kept}") from None


def _traceback_kept(error: JudgeError | MethodError, folder: Path | None, shown: Path | None) -> str:
    """Keep the traceback of a judge or a method for its author, where there is a folder for it; says where."""
    if folder is None or shown is None:
        return "; with --output-dir FOLDER its traceback would be kept"
    if jax.process_index() == 0:
        with suppress(OSError, OutputError):
            name = TRACEBACKS[type(error)]
            with replacing(folder / name) as part:
                part.write_text("".join(traceback.format_exception(error.error)), "utf-8", errors="replace")
            return f"; its traceback is in {shown / name}"
    return ""


def _generate(options: Generate, argv: Sequence[str], say: Say) -> int:
    prepare_file(options.output_file, (".jsonl",))
    dataset = read(options, options.dataset_name)
    place = answering.place_of(options.model_name_or_path)
    policy = policy_of(replace(options, model_name_or_path=place))
    answering.say_of(policy.origin.folder, options.model_name_or_path, options, say)
    longest, words = room(policy.architecture, options.max_new_tokens), tokenizer(policy.origin)
    examples, skipped = encoding.prompts(dataset, words, longest=longest, on_bad_row=options.on_bad_row)
    say(encoding.preview(examples, words, 1))
    answers = answering.draw(policy, [example.ids for example in examples], options)
    with replacing(options.output_file) as part:
        part.write_text("".join(answering.answer_lines([example.row.prompt for example in examples], answers)), "utf-8")
    left_out = f", {len(skipped)} prompts left out" if skipped else ""
    say([f"wrote {sum(map(len, answers))} answers to {options.output_file}{left_out}"])
    return DONE


def _eval(options: Eval, argv: Sequence[str], say: Say) -> int:
    named = [(name, model) for name, _, model in (text.partition("=") for text in options.models)]
    if len(named) < 2 or not all(model for _, model in named) or len({name for name, _ in named}) < len(named):
        raise UsageError("expected at least two models to compare, each as NAME=MODEL with a name of its own")
    answering.check_names([name for name, _ in named])
    exploit_command.check_table(options)
    if options.output_dir is not None:
        _check_nothing_is_replaced(options.output_dir, [name for name, model in named if not model.endswith(".jsonl")])
    dataset = read(options, options.dataset_name)
    given = {name: answering.answering(model, dataset, options) for name, model in named}
    judge = judge_of(options)
    try_out(judge, [row.text for row in dataset.rows])
    for folder in filter(None, dict.fromkeys(one.folder for one in given.values())):
        loading.check_weights(folder, dtype=options.dtype, family=answering.family_of(options, folder))
    if options.output_dir is not None:
        prepare_folder(options.output_dir)
    folder = None if options.output_dir is None else options.output_dir.absolute()  # a judge may go elsewhere
    with held(options.output_dir, "mpo"):
        status, exploits = exploit_command.of_table(options, dict(named), say)
        if status != DONE:
            return status
        found = replace(_compared(options, given, (judge, dataset), say), exploits=exploits)
    cases = [row.case for row in dataset.rows]
    if folder is not None:
        with replacing(folder / EVAL) as part:
            counts = {"prompts": len(cases), "distinct_prompts": len(set(cases))}
            content = found.as_dict() | judged_by(options) | {**counts, "command": list(argv)}
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    say([*repeats(cases), *found.lines()])
    return DONE


def _compared(
    options: Eval, given: Mapping[str, answering.Answering], asked: tuple[Any, data.Dataset], say: Say
) -> Tournament:
    """Have the models answer, one after the other, and the judge compare."""
    judge, rows = asked[0], asked[1].rows
    prompts = [row.text for row in rows]
    folder = None if options.output_dir is None else options.output_dir.absolute()  # a judge may go elsewhere
    answers: dict[str, list[list[str]]] = {}
    drawn: list[str] = []
    with _saying_what_is_kept(drawn, options.output_dir):
        for name, one in given.items():
            if one.folder is not None:
                answering.say_of(one.folder, name, options, say)
            answers[name] = one.answer(name)
            say([f"{name}: {sum(map(len, answers[name]))} answers"])
            if one.folder is not None:
                answering.keep(options.output_dir, name, [row.prompt for row in rows], answers[name])
                drawn.append(name)
        found = tournament(judge, prompts, answers, cases=[row.case for row in rows])
        answering.keep_comparisons(folder, prompts, answers, found)
    return found


def _judge_report(options: ReportOnJudge, argv: Sequence[str], say: Say) -> int:
    folder = _check_report(options)
    path = options.dataset_name if options.answers is None else options.answers
    assert path is not None
    dataset = read(options, path)
    one = (
        answering.answering(options.model, dataset, options)
        if options.model
        else answering.Answering(_given_answers(dataset), None)
    )
    judge, prompts = judge_of(options), [row.text for row in dataset.rows]
    try_out(judge, prompts)
    if one.folder is not None:
        loading.check_weights(one.folder, dtype=options.dtype, family=answering.family_of(options, one.folder))
    if folder is not None:
        prepare_folder(folder)
    with held(folder, "mpo"):
        if one.folder is not None:
            answering.say_of(one.folder, options.model or "", options, say)
        answers = one.answer("")
        if options.model and folder is not None:
            answering.keep(folder, ANSWERS, [row.prompt for row in dataset.rows], answers)
            say([f"wrote {sum(map(len, answers))} answers to {folder / ANSWERS}.jsonl"])
        cases = [row.case for row in dataset.rows]
        found = judge_report(judge, prompts, answers, repeats=options.repeats, cases=cases, seed=options.seed)
        if folder is not None:
            with replacing(folder / VERDICTS) as part:
                part.write_text("".join(f"{json.dumps(row)}\n" for row in found.verdicts()), "utf-8")
            with replacing(folder / REPORT) as part:
                content = found.as_dict() | judged_by(options) | {"command": list(argv)}
                part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    say(found.lines())
    return DONE


def _check_report(options: ReportOnJudge) -> Path | None:
    """The folder, absolute because a judge may go elsewhere; refuse options that do not go together."""
    if (options.answers is None) == (options.model is None):
        got = "none of them" if options.model is None else "both"
        raise UsageError(f"expected --answers FILE, or --model MODEL with --dataset-name FILE, got {got}")
    if (options.dataset_name is None) != (options.model is None):
        wanted = "needs --dataset-name, whose prompts the model answers" if options.model else ""
        raise UsageError(
            f"--model {wanted}" if wanted else "--dataset-name is for --model: --answers has its own prompts"
        )
    folder = options.output_dir
    for name in filter(None, (REPORT, f"{ANSWERS}.jsonl" if options.model else "")):
        if folder is not None and (folder / name).exists():
            raise UsageError(
                f"{folder}: holds {name}; choose another folder, or take --answers {folder}/{ANSWERS}.jsonl"
            )
    return None if folder is None else folder.absolute()


def _given_answers(dataset: data.Dataset) -> Callable[[str], list[list[str]]]:
    """The answers of a file, one a row."""
    for row in dataset.rows:
        if not isinstance(row.columns.get("response"), str):
            raise UsageError(f"{row.where}: expected a text 'response' beside the prompt")
    answers = [[row.columns["response"]] for row in dataset.rows]
    return lambda _: answers


def _check_nothing_is_replaced(folder: Path, drawn: Iterable[str]) -> None:
    """Refuse a folder with a finished eval, or with answers of a model that is to answer again."""
    if (folder / EVAL).exists():
        answers = f"NAME={folder}/NAME.jsonl"
        raise UsageError(f"{folder}: holds an eval ({EVAL}); choose another folder, and take its answers as {answers}")
    for name in drawn:
        if (path := folder / f"{name}.jsonl").exists():
            raise UsageError(f"{path}: holds answers already; take them as {name}={path}, or choose another folder")


@contextmanager
def _saying_what_is_kept(drawn: Sequence[str], folder: Path | None) -> Iterator[None]:
    """Where something fails inside, say what becomes of the answers that have been drawn by then."""
    try:
        yield
    except BaseException:
        if drawn:
            models = " ".join(f"{name}={folder}/{name}.jsonl" for name in drawn)
            kept = f"are kept, and need not be drawn again: mpo eval takes {models}"
            lost = "are lost; with --output-dir FOLDER they would have been kept"
            sys.stderr.write(f"mpo: the answers of {', '.join(drawn)} {lost if folder is None else kept}\n")
        raise


def _export(options: Export, argv: Sequence[str], say: Say) -> int:
    settings = options.run / training_run.CONFIG
    if not settings.exists():
        raise UsageError(f"{options.run}: expected a directory of mpo train, it has no {training_run.CONFIG}")
    if "\nnum_train_epochs:" in settings.read_text("utf-8"):
        raise UsageError(f"{options.run}: a run of mpo train-judge; its judge is in {options.run / 'policy'}")
    named = {name: getattr(options, name) for name in ("method", "magnet", "family")}
    again = [word for name, text in named.items() if text is not None for word in (f"--{name}", text)]
    words = expanded(["train", "--config", str(settings), *again], unread=("judge",))
    trained = parse(words, PROGRAM)
    if not isinstance(trained, Train):
        raise UsageError(f"{settings}: expected the options of mpo train")
    if options.weights is not None:
        others = tuple(text for text in trained.set if not text.startswith("exports="))
        trained = replace(trained, set=others, weights="last" if options.weights == "policy" else options.weights)
    method = method_of(trained)
    policy = policy_of(trained, lora=trained).with_temperature(trained.temperature)
    begun = method.init(policy, jax.random.key(trained.seed))
    saved = RunState(options.run, None).restore(training_run.slim(begun))
    if saved is None:
        raise UsageError(f"{options.run}: has no checkpoint yet")
    found = method.export(replace(saved.state, base=begun.base), policy)
    adapted = found.is_adapted
    merged, known = adapted and options.merge, replace(trained, output_dir=options.run)  # wherever the run is now
    card = model_card.text(known, method, found, saved.step, merged=merged, measured=options.weights is None)
    save = adapters.save_adapter if adapted and not merged else export.save
    save(adapters.merge(found) if merged else found, options.output_dir, card=card)
    say([f"wrote the policy {when(saved.step)} to {options.output_dir}"])
    return DONE


def _import(options: Import, argv: Sequence[str], say: Say) -> int:
    folder = gguf_files.import_gguf(options.file, options.output_dir, dtype=options.dtype)
    say([f"wrote the model of {options.file} to {folder}"])
    return DONE


def _env(options: Env, argv: Sequence[str], say: Say) -> int:
    versions = environment.versions((*training_run.LIBRARIES, *OPTIONAL_LIBRARIES))
    say(f"{name} {version or 'not installed'}" for name, version in versions.items())
    say([f"commit {environment.commit() or 'unknown (not a checkout)'}", f"platform {platform.platform()}"])
    say(f"device {environment.describe(device)}" for device in jax.devices())
    return DONE


def _say(lines: Iterable[str]) -> None:
    if jax.process_index() == 0:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()


def _say_nothing(lines: Iterable[str]) -> None:
    pass


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Warnings are sentences for the user; where in the code they were made is not his business."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        sys.stderr.write(f"mpo: {' '.join(str(message).split())}\n")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
