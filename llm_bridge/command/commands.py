"""What the `mpo` command does, subcommand by subcommand; training is in `llm_bridge.command.train_commands`."""

import json
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llm_bridge.checkpoint import adapters, export, gguf_files, loading
from llm_bridge.command import model_card, training_run
from llm_bridge.command.config_file import expanded
from llm_bridge.command.drawing import stream, unlike_recommended
from llm_bridge.command.judge_choice import judge_of, try_out
from llm_bridge.command.method_choice import method_of
from llm_bridge.command.options import Command, Env, Eval, Export, Generate, Import, Run, Sampling, Train, TrainJudge
from llm_bridge.command.train_commands import policy_of, read, room, train, train_judge
from llm_bridge.judges import preference_model
from llm_bridge.measure.evaluation import tournament
from llm_bridge.measure.intervals import repeats
from llm_bridge.model import families as models
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import SettingError, flags
from llm_bridge.model.tensor_files import CONFIG, checkpoint_folder, read_json
from llm_bridge.policy.policy import Policy
from llm_bridge.run.run_state import RunState
from llm_bridge.text import data, encoding
from llm_bridge.text.tokenizer import tokenizer_of
from llm_bridge.train.rollout import tokenizer
from mmd.host import environment
from mmd.host.command_line import UsageError, parse
from mmd.host.files import OutputError, prepare_file, prepare_folder, replacing
from mmd.host.folder_lock import held

DONE = 0
EVAL = "eval.json"
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
        Export: _export,
        Import: _import,
        Env: _env,
    }
    quiet = isinstance(command, Run) and command.quiet
    place = command.output_dir if isinstance(command, Run) and not command.output_dir.exists() else None
    try:
        with _warnings_in_one_line():
            return carry_out[type(command)](command, ["mpo", *argv], _say_nothing if quiet else _say)
    except (BridgeError, OutputError, UsageError) as error:
        if place is not None:
            with suppress(OSError):
                place.rmdir()  # made for a run that is refused; one that has something in it stays
        text = error.called(flags(command)) if isinstance(error, SettingError) else str(error)
        raise UsageError(text) from None


def _generate(options: Generate, argv: Sequence[str], say: Say) -> int:
    prepare_file(options.output_file, (".jsonl",))
    dataset = read(options, options.dataset_name)
    place = _place_of(options.model_name_or_path)
    base = adapters.look(place) if _is_adapter(place) else place
    policy = policy_of(replace(options, model_name_or_path=base))
    policy = policy if base == place else adapters.load_adapter(policy, place)
    _say_of(policy.origin.folder, options.model_name_or_path, options, say)
    longest, words = room(policy.architecture, options.max_new_tokens), tokenizer(policy.origin)
    examples, skipped = encoding.prompts(dataset, words, longest=longest, on_bad_row=options.on_bad_row)
    say(encoding.preview(examples, words, 1))
    answers = draw(policy, [example.ids for example in examples], options)
    with replacing(options.output_file) as part:
        part.write_text("".join(_answer_lines([example.row.prompt for example in examples], answers)), "utf-8")
    left_out = f", {len(skipped)} prompts left out" if skipped else ""
    say([f"wrote {sum(map(len, answers))} answers to {options.output_file}{left_out}"])
    return DONE


def draw(policy: Policy, prompts: Sequence[Sequence[int]], options: Sampling, name: str = "") -> list[list[str]]:
    """Answers to each prompt; they depend on the order of the prompts and how many are drawn at a time.

    Args:
        policy: what answers.
        prompts: token ids.
        options: among them the seed.
        name: of the policy among others; see `llm_bridge.command.drawing`.
    """
    rows = [prompt for prompt in prompts for _ in range(options.num_generations)]
    words, key, texts = tokenizer(policy.origin), stream(options.seed, policy, name), []
    for begin in range(0, len(rows), options.batch_size):
        found = policy.generate(
            rows[begin : begin + options.batch_size],
            key=jax.random.fold_in(key, begin),
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )
        tokens, mask = jax.device_get((found.tokens, found.mask))
        texts += [words.decode(row[marked]) for row, marked in zip(tokens, mask, strict=True)]
    n = options.num_generations
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def _eval(options: Eval, argv: Sequence[str], say: Say) -> int:
    named = [text.partition("=")[::2] for text in options.models]
    if len(named) < 2 or not all(model for _, model in named) or len({name for name, _ in named}) < len(named):
        raise UsageError("expected at least two models to compare, each as NAME=MODEL with a name of its own")
    if odd := [name for name, _ in named if not re.fullmatch(r"\w[\w .+-]*", name)]:
        raise UsageError(f"expected names of letters, digits and . + -, which files can have, got {odd[0]!r}")
    if options.output_dir is not None:
        _check_nothing_is_replaced(options.output_dir, [name for name, model in named if not model.endswith(".jsonl")])
    dataset = read(options, options.dataset_name)
    answering = {name: _answering(model, dataset, options) for name, model in named}
    judge, prompts = judge_of(options), [row.text for row in dataset.rows]
    cases = [row.case for row in dataset.rows]
    try_out(judge, prompts)
    for folder in filter(None, dict.fromkeys(one.folder for one in answering.values())):
        loading.check_weights(folder, dtype=options.dtype, family=_family(options, folder))
    if options.output_dir is not None:
        prepare_folder(options.output_dir)
    answers: dict[str, list[list[str]]] = {}
    drawn: list[str] = []
    with held(options.output_dir, "mpo"), _saying_what_is_kept(drawn, options.output_dir):
        for name, one in answering.items():
            if one.folder is not None:
                _say_of(one.folder, name, options, say)
            answers[name] = one.answer(name)
            say([f"{name}: {sum(map(len, answers[name]))} answers"])
            if one.folder is not None:
                _keep(options.output_dir, name, [row.prompt for row in dataset.rows], answers[name])
                drawn.append(name)
        folder = None if options.output_dir is None else options.output_dir.absolute()  # a judge may go elsewhere
        found = tournament(judge, prompts, answers, cases=cases)
    if folder is not None:
        with replacing(folder / EVAL) as part:
            counts = {"prompts": len(prompts), "distinct_prompts": len(set(cases))}
            content = found.as_dict() | {"judge": options.judge, **counts, "command": list(argv)}
            part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    say([*repeats(cases), *found.lines()])
    return DONE


def _check_nothing_is_replaced(folder: Path, drawn: Iterable[str]) -> None:
    """Refuse a folder with a finished eval, or with answers of a model that is to answer again."""
    if (folder / EVAL).exists():
        answers = f"NAME={folder}/NAME.jsonl"
        raise UsageError(f"{folder}: holds an eval ({EVAL}); choose another folder, and take its answers as {answers}")
    for name in drawn:
        if (path := folder / f"{name}.jsonl").exists():
            raise UsageError(f"{path}: holds answers already; take them as {name}={path}, or choose another folder")


def _keep(folder: Path | None, name: str, prompts: Sequence[data.TextOrChat], answers: Sequence[Sequence[str]]) -> None:
    """Write a model's answers, if they are to be written."""
    if folder is not None:
        with replacing(folder / f"{name}.jsonl") as part:
            part.write_text("".join(_answer_lines(prompts, answers)), "utf-8")


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


class _Answering(NamedTuple):
    """What gives a model's answers under its name; the folder of its weights, None if they are from a file."""

    answer: Callable[[str], list[list[str]]]
    folder: Path | None


def _answering(model: str, dataset: data.Dataset, options: Eval) -> _Answering:
    """A model's answers, from a file or drawn; whatever can be refused without reading weights is refused here."""
    if model.endswith(".jsonl"):
        known = _read_answers(Path(model), [row.text for row in dataset.rows], options.num_generations)
        return _Answering(lambda _: known, None)
    place = _place_of(model)
    adapted = _is_adapter(place)
    base = adapters.look(place) if adapted else place
    folder, architecture = loading.look(base, dtype=options.dtype, family=_family(options, base))
    if (words := tokenizer_of(str(folder.absolute()))) is None:
        raise UsageError(f"{model}: has no tokenizer, expected tokenizer.json")
    examples = encoding.prompts(dataset, words, longest=room(architecture, options.max_new_tokens)).examples
    prompts = [example.ids for example in examples]

    def answer(name: str) -> list[list[str]]:
        policy = loading.load(folder, dtype=options.dtype, family=_family(options, folder))
        return draw(adapters.load_adapter(policy, place) if adapted else policy, prompts, options, name)

    return _Answering(answer, folder)


def _family(options: Eval, place: str | Path) -> str | None:
    """The family from outside that is named, for a model whose `model_type` is not built in."""
    if options.family is None:
        return None
    config = checkpoint_folder(place, loading.FILES) / CONFIG
    built_in = config.exists() and read_json(config).get("model_type") in models.names()
    return None if built_in else options.family


def _say_of(folder: str | Path | None, name: str, options: Sampling, say: Say) -> None:
    """Say where the checkpoint recommends other draws than those that are made."""
    if (remark := unlike_recommended(folder, options)) is not None:
        say([f"{name}: {remark}"])


def _place_of(model: str) -> str:
    """The folder, or the hub id, of a model that answers.

    Raises:
        UsageError: it is a run that has none yet, or a judge.
    """
    path = Path(model)
    if (path / training_run.CONFIG).exists():
        path /= "policy"
        if not path.exists():
            raise UsageError(
                f"{model}: the run is not finished, so it has no policy yet; "
                f"mpo export {model} --output-dir FOLDER writes what it has reached"
            )
    if (path / preference_model.CONFIG).exists():
        raise UsageError(f"{model}: holds a judge, which answers no prompts")
    return str(path) if path.exists() else model


def _is_adapter(place: str) -> bool:
    return (Path(place) / adapters.CONFIG).exists() and not (Path(place) / training_run.MODEL).exists()


def _answer_lines(prompts: Sequence[data.TextOrChat], answers: Sequence[Sequence[str]]) -> Iterator[str]:
    for prompt, texts in zip(prompts, answers, strict=True):
        for i, text in enumerate(texts):
            yield json.dumps({"prompt": prompt, "response": text, "sample": i}) + "\n"


def _read_answers(path: Path, prompts: Sequence[str], n: int) -> list[list[str]]:
    """The first n answers to each prompt, from a file of `mpo generate`."""
    found: dict[str, list[str]] = {}
    try:
        for number, line in enumerate(path.read_text("utf-8").rstrip("\n").split("\n"), 1):
            row = json.loads(line)
            prompt = data.shown(row.get("prompt")) if isinstance(row, Mapping) else None
            if prompt is None or not isinstance(row.get("response"), str):
                raise UsageError(f"{path}:{number}: expected a 'prompt', text or messages, and a text 'response'")
            found.setdefault(prompt, []).append(row["response"])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: expected JSON Lines in UTF-8") from None
    taken: dict[str, int] = {}  # a prompt that stands in several rows has answers of its own in each
    answers = []
    for prompt in prompts:
        first = taken.get(prompt, 0)
        answers.append(found.get(prompt, [])[first : first + n])
        taken[prompt] = first + n
    if short := sum(len(texts) < n for texts in answers):
        raise UsageError(f"{path}: {short} of {len(prompts)} prompts have fewer than {n} answers in it")
    return answers


def _export(options: Export, argv: Sequence[str], say: Say) -> int:
    settings = options.run / training_run.CONFIG
    if not settings.exists():
        raise UsageError(f"{options.run}: expected a directory of mpo train, it has no {training_run.CONFIG}")
    if "\nnum_train_epochs:" in settings.read_text("utf-8"):
        raise UsageError(f"{options.run}: a run of mpo train-judge; its judge is in {options.run / 'policy'}")
    named = {name: getattr(options, name) for name in ("method", "magnet", "family")}
    again = [word for name, text in named.items() if text is not None for word in (f"--{name}", text)]
    words = expanded(["train", "--config", str(settings), *again], unread=("judge",))
    trained = parse(Command, words, program="mpo", description="")
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
    adapted = any(".lora_" in name for name in found.weights)
    merged, known = adapted and options.merge, replace(trained, output_dir=options.run)  # wherever the run is now
    card = model_card.text(known, method, found, saved.step, merged=merged, measured=options.weights is None)
    save = adapters.save_adapter if adapted and not merged else export.save
    save(adapters.merge(found) if merged else found, options.output_dir, card=card)
    say([f"wrote the policy after {saved.step} rounds to {options.output_dir}"])
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
