"""The stages of `benchmarks.real_model.demo`, in their order; each leaves files in its folder and returns numbers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import llm_bridge as bridge
import mmd
from benchmarks.real_model import text
from benchmarks.real_model.measures import accuracy, perplexity, plain
from llm_bridge.command.answering import draw
from llm_bridge.command.options import Sampling
from llm_bridge.judges import Judge, preference_model
from llm_bridge.judges.preference_model import PreferenceModel, PreferenceTraining, text_layout, train_judge
from llm_bridge.measure.evaluation import matched, tournament
from llm_bridge.policy.policy import Policy
from llm_bridge.text import data
from llm_bridge.text.tokenizer import Tokenizer
from llm_bridge.train.baselines.inpo import INPO
from llm_bridge.train.baselines.iterative_dpo import IterativeDPO
from llm_bridge.train.baselines.sft import SFT
from llm_bridge.train.loop import Method

FILES = ("prefs_train.jsonl.gz", "prefs_dev.jsonl.gz")
JUDGES = ("first", "second")  # the first trains policies, the second only evaluates
POLICIES = {"SFT": "fine_tuning", "MPO": "mpo", "iterative DPO": "iterative_dpo", "INPO": "inpo"}  # and their stages
SHOWN = ("kl/initial", "kl/magnet", "entropy", "distinct", "response_length", "truncated_frac", "loss", "grad_norm")
CONFIG = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Settings:
    """Numbers of the run; lengths are in tokens.

    Attributes:
        vocabulary: of the tokenizer.
        longest_prompt: pairs with a longer one are left out.
        longest_answer: what policies draw, and what they are fine-tuned on.
        longest_comparison: a judge's row, a prompt with two answers; answers lose their ends.
        document, block: of the language model's texts, and of the rows that these are packed into.
        pretraining, finetuning, judging: optimizer steps.
        pairs_per_step: of a judge.
        judge_rate: learning rate of the judges.
        rounds, prompts_per_round, group_size, opponents, epochs, learning_rate: of all methods.
        etas, trial, trial_prompts: step sizes that each method tries, for how many rounds, on how many prompts.
        pull: eta alpha of the methods that have an alpha.
        refresh: rounds after which MPO's magnet is copied; rounds is a multiple of it.
        samples: answers to each dev prompt in the evaluation.
        seed: of everything.
    """

    vocabulary: int = 2048
    longest_prompt: int = 32
    longest_answer: int = 48
    longest_comparison: int = 128
    document: int = 96
    block: int = 128
    pretraining: int = 600
    finetuning: int = 60
    judging: int = 100
    pairs_per_step: int = 16
    judge_rate: float = 5e-4
    rounds: int = 24
    prompts_per_round: int = 8
    group_size: int = 8
    opponents: int = 4
    epochs: int = 2
    learning_rate: float = 1e-3
    etas: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0)
    pull: float = 0.2
    trial: int = 8
    trial_prompts: int = 64
    refresh: int = 8
    samples: int = 3
    seed: int = 0

    def scaled(self, share: float) -> "Settings":
        """The same with a share of the steps, and of the judged answers."""
        names = ("pretraining", "finetuning", "judging", "trial", "trial_prompts", "rounds", "refresh", "samples")
        return replace(self, **{name: max(1, round(share * getattr(self, name))) for name in names})


class Place(NamedTuple):
    """Where stages leave their folders, and where the text is."""

    out: Path
    text: Path


Found = dict[str, Any]


def tokenizer(place: Place, settings: Any, found: Found) -> Found:
    """Byte pairs of the training texts. A Hugging Face folder with tokenizer and model configuration."""
    folder = place.out / "tokenizer" / "model"
    pairs = text.read(place.text / FILES[0])
    text.make_tokenizer(pairs, settings.vocabulary, folder)
    words = Tokenizer(folder)
    special = {"bos_token_id": words.bos, "eos_token_id": words.eos, "pad_token_id": words.pad}
    (folder / "config.json").write_text(json.dumps(CONFIG | special | {"vocab_size": settings.vocabulary}), "utf-8")
    shown = sum(len(pair["chosen"]) for pair in pairs[:200])
    n_tokens = sum(len(words.encode(pair["chosen"])) for pair in pairs[:200])
    return {"tokens": settings.vocabulary, "characters_per_token": shown / n_tokens}


def dataset(place: Place, settings: Any, found: Found) -> Found:
    """Pairs with short prompts, in two halves without a common prompt. Prompts of the first half train policies."""
    words, folder = Tokenizer(place.out / "tokenizer" / "model"), place.out / "dataset"
    train, dev = (text.read(place.text / name) for name in FILES)
    kept, tested = (text.short(pairs, words, settings.longest_prompt) for pairs in (train, dev))
    first, second = text.halves(kept)
    named = {"train": kept, "first": first, "second": second, "dev": tested}
    for name, pairs in named.items():
        text.write(folder / f"{name}.jsonl", pairs)
    text.write(folder / "prompts.jsonl", text.prompts(first))
    text.write(folder / "dev_prompts.jsonl", text.prompts(tested))
    counts = {name: {"pairs": len(p), "prompts": len(text.prompts(p))} for name, p in named.items()}
    return {"all": {"train": len(train), "dev": len(dev)}, "kept": counts, "sources": text.sources(kept)}


def language_model(place: Place, settings: Any, found: Found) -> Found:
    """A Llama from scratch, on every pair of the training texts. Perplexity on the dev texts beside a unigram model."""
    start = bridge.init(place.out / "tokenizer" / "model", jax.random.key(settings.seed))
    words = Tokenizer(place.out / "tokenizer" / "model")
    train, dev = (text.documents(text.read(place.text / name), words, settings.document) for name in FILES)
    rows = text.packed(train, settings.block, settings.seed)
    method = supervised(3e-3, settings.pretraining, 16)
    policy = fit(method, start, rows, settings.pretraining, place.out / "language_model")
    steps_an_epoch = len(rows) / method.prompts_per_round
    return {
        "weights": sum(array.size for array in start.arrays().values()),
        "tokens": sum(map(len, train)),
        "epochs": settings.pretraining / steps_an_epoch,
        "perplexity": perplexity(policy, dev),
        "unigram_perplexity": text.unigram_perplexity(train, dev, settings.vocabulary),
    }


def fine_tuning(place: Place, settings: Any, found: Found) -> Found:
    """Supervised fine-tuning on chosen answers. Where all methods begin."""
    start = bridge.load(place.out / "language_model" / "policy")
    words = Tokenizer(place.out / "language_model" / "policy")
    train, dev = (text.demonstrations(rows(place, name), words, settings.longest_answer) for name in ("train", "dev"))
    method = supervised(1e-3, settings.finetuning, 32)
    policy = fit(method, start, train, settings.finetuning, place.out / "fine_tuning")
    return {
        "answers": len(train),
        "epochs": settings.finetuning * method.prompts_per_round / len(train),
        "perplexity_before": perplexity(start, *zip(*dev, strict=True)),
        "perplexity": perplexity(policy, *zip(*dev, strict=True)),
    }


def first_judge(place: Place, settings: Any, found: Found) -> Found:
    """A judge of pairs, from the language model, on the first half of the prompts. It trains policies."""
    return judge_of(place, settings, "first")


def second_judge(place: Place, settings: Any, found: Found) -> Found:
    """Another judge, on the second half of the prompts. It only evaluates."""
    return judge_of(place, settings, "second")


def judge_of(place: Place, settings: Any, name: str) -> Found:
    """Train a judge; its accuracy on the dev pairs."""
    start, folder = bridge.load(place.out / "language_model" / "policy"), place.out / f"{name}_judge"
    words = Tokenizer(place.out / "language_model" / "policy")
    layout, pairs, log = text_layout(words, settings.longest_comparison), rows(place, name), []
    judge = train_judge(
        PreferenceTraining(start, layout, words, settings.judging, settings.judge_rate),
        [row.comparison for row in pairs],
        seed=settings.seed,
        rows_per_step=settings.pairs_per_step,
        on_step=lambda step, metrics: log.append({"step": step, **metrics}),
    )
    text.write(folder / "metrics.jsonl", log)
    judge.save(folder / "judge")
    tested = [json.loads(line) for line in (place.out / "dataset" / "dev.jsonl").read_text("utf-8").splitlines()]
    epochs = settings.judging * settings.pairs_per_step / len(pairs)
    return {"pairs": len(pairs), "epochs": epochs, **accuracy(judge, rows(place, "dev"), tested)}


def judge_at(place: Place, name: str) -> PreferenceModel:
    """A judge that was trained."""
    return replace(preference_model.load(place.out / f"{name}_judge" / "judge"), rows=64)


class Counting:
    """The first judge; it counts what it is asked. Equal answers are not asked."""

    symmetric = True

    def __init__(self, place: Place):
        self._judge, self.pairs = judge_at(place, "first"), 0

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
        """See `llm_bridge.judges`."""
        self.pairs += len(a)
        return self._judge(prompts, a, b)


def step_size(place: Place, settings: Any, found: Found) -> Found:
    """A few rounds of each method with each eta. The one that wins most against the start is taken.

    On training prompts and with the training judge alone.
    """
    start, judge = bridge.load(place.out / "fine_tuning" / "policy"), judge_at(place, "first")
    asked = questions(place, "prompts", Tokenizer(place.out / "fine_tuning" / "policy"))
    some = asked[: settings.trial_prompts]
    drawing = Sampling(max_new_tokens=settings.longest_answer, batch_size=len(some), seed=2)
    answers, tried = {"start": drawn(start, some, drawing)}, {}
    for name, eta in ((name, eta) for name in list(POLICIES.values())[1:] for eta in settings.etas):
        folder = place.out / "step_size" / f"{name}_{eta:g}"
        folder.mkdir()
        policy = fit(method_of(name, judge, eta, settings), start, asked, settings.trial, folder)
        table = tournament(judge, [str(q.shown) for q in some], answers | {"trial": drawn(policy, some, drawing)})
        tried.setdefault(name, {})[f"{eta:g}"] = {"wins": table.wins[1, 0], "error": table.error[1, 0]}
    taken = {name: max(settings.etas, key=lambda eta: wins[f"{eta:g}"]["wins"]) for name, wins in tried.items()}
    return {"wins": plain(tried), "taken": taken}


def mpo(place: Place, settings: Any, found: Found) -> Found:
    """Magnetic Preference Optimization. Its magnet is copied, and what is exported is the last copy."""
    return policy_of(place, settings, found, "mpo")


def iterative_dpo(place: Place, settings: Any, found: Found) -> Found:
    """Iterative DPO."""
    return policy_of(place, settings, found, "iterative_dpo")


def inpo(place: Place, settings: Any, found: Found) -> Found:
    """Iterative Nash Policy Optimization."""
    return policy_of(place, settings, found, "inpo")


def method_of(name: str, judge: Judge, eta: float, settings: Any) -> Method:
    """A method with the numbers that all share, and an alpha that suits its eta."""
    methods: dict[str, Method] = {
        "mpo": bridge.MPO(magnet=mmd.Refresh(every=settings.refresh)),
        "iterative_dpo": IterativeDPO(),
        "inpo": INPO(),
    }
    names = ("learning_rate", "group_size", "prompts_per_round", "opponents", "epochs")
    numbers: dict[str, Any] = {name: getattr(settings, name) for name in names}
    numbers |= {"eta": eta, "alpha": settings.pull / eta}
    return replace(methods[name], judge=judge, max_new_tokens=settings.longest_answer, **numbers)


def policy_of(place: Place, settings: Any, found: Found, name: str) -> Found:
    """Train from the fine-tuned model under the first judge, with the step size that was taken."""
    start, folder, judge = bridge.load(place.out / "fine_tuning" / "policy"), place.out / name, Counting(place)
    asked = questions(place, "prompts", Tokenizer(place.out / "fine_tuning" / "policy"))
    method = method_of(name, judge, found["step_size"]["taken"][name], settings)
    fit(method, start, asked, settings.rounds, folder)
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "samples": settings.rounds * settings.prompts_per_round * settings.group_size,
        "judged_pairs": judge.pairs,
        "rounds": {key: plain([row.get(key) for row in log]) for key in SHOWN if key in log[0]},
    }


def questions(place: Place, name: str, words: Tokenizer) -> list[bridge.Question]:
    """Prompts of a file as policies read them and as judges see them."""
    return [bridge.Question(tuple(words.prompt(row.prompt)), row.text) for row in rows(place, name)]


def drawn(policy: Policy, asked: Sequence[bridge.Question], drawing: Sampling) -> list[list[str]]:
    """Answers to each question."""
    return draw(policy, [question.tokens for question in asked], drawing)


def evaluation(place: Place, settings: Any, found: Found) -> Found:
    """All policies against each other on the dev prompts, under the first judge and under the second."""
    folders = {name: place.out / stage / "policy" for name, stage in POLICIES.items()}
    words = Tokenizer(folders["SFT"])
    asked = questions(place, "dev_prompts", words)
    drawing = Sampling(
        max_new_tokens=settings.longest_answer, num_generations=settings.samples, batch_size=len(asked), seed=1
    )
    answers = {name: drawn(bridge.load(folder), asked, drawing) for name, folder in folders.items()}
    alike, shown = matched(lambda answer: len(words.encode(answer))), [str(q.shown) for q in asked]
    numbers: Found = {"prompts": len(asked), "samples": settings.samples}
    for name in JUDGES:
        numbers[name] = plain(tournament(judge_at(place, name), shown, answers, alike=alike).as_dict())
    lengths = {
        name: [len(words.encode(one)) for samples in given for one in samples] for name, given in answers.items()
    }
    numbers["tokens"] = {
        name: {"mean": float(np.mean(n)), "median": float(np.median(n))} for name, n in lengths.items()
    }
    text.write(
        place.out / "evaluation" / "answers.jsonl",
        ({"prompt": p, **{name: given[i] for name, given in answers.items()}} for i, p in enumerate(shown)),
    )
    numbers["examples"] = [{"prompt": shown[i], **{n: given[i][0] for n, given in answers.items()}} for i in range(3)]
    return numbers


def supervised(rate: float, steps: int, rows_per_step: int) -> SFT:
    """Adam with a small eps, a learning rate that rises for a twentieth of the steps and then falls."""
    rise = max(1, steps // 20)

    def schedule(number: jax.Array) -> jax.Array:
        return rate * jnp.minimum(1.0, (number.astype(jnp.float32) + 1) / rise)

    return SFT(
        prompts_per_round=rows_per_step, learning_rate=schedule, b2=0.99, eps=1e-8, max_grad_norm=1.0, watch_start=False
    )


def fit(method: Method, policy: Policy, given: Sequence[Any], steps: int, folder: Path) -> Policy:
    """Train, log each round, save the result in `folder/policy`."""
    with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:

        def write(state: bridge.TrainState, metrics: dict[str, float]) -> None:
            log.write(json.dumps(metrics) + "\n")
            log.flush()

        result = method.fit(policy, given, steps=steps, key=jax.random.key(0), callback=write)
    bridge.save(result.policy, folder / "policy")
    return bridge.load(folder / "policy")


def rows(place: Place, name: str) -> tuple[data.Row, ...]:
    """Of a file of the dataset."""
    kind = "prompts" if name.endswith("prompts") else "preferences"
    return data.load(place.out / "dataset" / f"{name}.jsonl", kind=kind).rows


STAGES: tuple[Callable[[Place, Any, Found], Found], ...] = (
    tokenizer,
    dataset,
    language_model,
    fine_tuning,
    first_judge,
    second_judge,
    step_size,
    mpo,
    iterative_dpo,
    inpo,
    evaluation,
)
