"""What gives a model's answers: a folder of weights, a run, an adapter with its base, or a file of `mpo generate`.

`mpo generate`, `mpo eval` and `mpo exploit` take models here. Whatever can be refused without reading weights is
refused before the first model answers.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from llm_bridge.checkpoint import adapters, loading
from llm_bridge.command import training_run
from llm_bridge.command.drawing import stream, unlike_recommended
from llm_bridge.command.options import Eval, ReportOnJudge, Sampling
from llm_bridge.command.train_commands import is_adapter, room
from llm_bridge.judges import preference_model
from llm_bridge.measure.evaluation import Tournament
from llm_bridge.model import families as models
from llm_bridge.model.tensor_files import CONFIG, checkpoint_folder, read_json
from llm_bridge.policy.policy import Policy
from llm_bridge.text import data, encoding
from llm_bridge.text.tokenizer import tokenizer_of
from llm_bridge.train.rollout import tokenizer
from mmd.host.command_line import UsageError
from mmd.host.files import replacing

COMPARISONS = "comparisons"
Say = Callable[[Iterable[str]], None]
AnswersOf = Mapping[str, Sequence[Sequence[str]]]  # of each model to each prompt


def check_names(names: Collection[str]) -> None:
    """That files can have the names of models.

    Raises:
        UsageError: one cannot be a file's.
    """
    if odd := [name for name in names if not re.fullmatch(r"\w[\w .+-]*", name)]:
        raise UsageError(f"expected names of letters, digits and . + -, which files can have, got {odd[0]!r}")
    if COMPARISONS in names:
        raise UsageError(f"expected another name than {COMPARISONS!r}, whose file has the judge's verdicts")


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


def keep(folder: Path | None, name: str, prompts: Sequence[data.TextOrChat], answers: Sequence[Sequence[str]]) -> None:
    """Write a model's answers, if they are to be written."""
    if folder is not None:
        with replacing(folder / f"{name}.jsonl") as part:
            part.write_text("".join(answer_lines(prompts, answers)), "utf-8")


def keep_comparisons(folder: Path | None, prompts: Sequence[str], answers: AnswersOf, found: Tournament) -> None:
    """Write what the judge said of all pairs of answers, if it is to be written: a line for two models and a prompt."""
    if folder is None:
        return
    with replacing(folder / f"{COMPARISONS}.jsonl") as part, part.open("w", encoding="utf-8") as file:
        for models, preferences in found.preferences.items():
            known = [[[None if x != x else x for x in row] for row in rows] for rows in preferences.tolist()]
            for prompt, *texts, said in zip(prompts, *(answers[name] for name in models), known, strict=True):
                row = {"prompt": prompt, "models": models, "answers": texts, "preference": said}
                file.write(f"{json.dumps(row)}\n")


class Answering(NamedTuple):
    """What gives a model's answers under its name; the folder of its weights, None if they are from a file."""

    answer: Callable[[str], list[list[str]]]
    folder: Path | None


def answering(model: str, dataset: data.Dataset, options: Eval | ReportOnJudge) -> Answering:
    """A model's answers, from a file or drawn; whatever can be refused without reading weights is refused here."""
    if model.endswith(".jsonl"):
        known = read_answers(Path(model), [row.text for row in dataset.rows], options.num_generations)
        return Answering(lambda _: known, None)
    place = place_of(model)
    adapted = is_adapter(place)
    base = adapters.look(place) if adapted else place
    folder, architecture = loading.look(base, dtype=options.dtype, family=family_of(options, base))
    if (words := tokenizer_of(str(folder.absolute()))) is None:
        raise UsageError(f"{model}: has no tokenizer, expected tokenizer.json")
    examples = encoding.prompts(dataset, words, longest=room(architecture, options.max_new_tokens)).examples
    prompts = [example.ids for example in examples]

    def answer(name: str) -> list[list[str]]:
        policy = loading.load(folder, dtype=options.dtype, family=family_of(options, folder))
        return draw(adapters.load_adapter(policy, place) if adapted else policy, prompts, options, name)

    return Answering(answer, folder)


def family_of(options: Eval | ReportOnJudge, place: str | Path) -> str | None:
    """The family from outside that is named, for a model whose `model_type` is not built in."""
    if options.family is None:
        return None
    config = checkpoint_folder(place, loading.FILES) / CONFIG
    built_in = config.exists() and read_json(config).get("model_type") in models.names()
    return None if built_in else options.family


def say_of(folder: str | Path | None, name: str, options: Sampling, say: Say) -> None:
    """Say where the checkpoint recommends other draws than those that are made."""
    if (remark := unlike_recommended(folder, options)) is not None:
        say([f"{name}: {remark}"])


def place_of(model: str) -> str:
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


def answer_lines(prompts: Sequence[data.TextOrChat], answers: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line of a .jsonl file for each answer."""
    for prompt, texts in zip(prompts, answers, strict=True):
        for i, text in enumerate(texts):
            yield json.dumps({"prompt": prompt, "response": text, "sample": i}) + "\n"


def read_answers(path: Path, prompts: Sequence[str], n: int) -> list[list[str]]:
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
