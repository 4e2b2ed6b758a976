"""An intransitive game on a language model: prompts are answered in three styles that beat each other in a circle.

    python -m benchmarks.truth.styles [--rounds 250]

A small Llama is trained from scratch by the package's SFT on questions with answers in three styles, of several
wordings each: plain six in ten, polite three, loud one. Then MPO and baselines train it against a judge that reads the
answers as text. The judge recognises the style and answers with P[polite > plain] = P[loud > polite] = 0.9, P[plain >
loud] = 0.8; equal styles are a tie. What is in no style, or talks of something else than was asked, loses to all that
is, and ties with its like. So the equilibrium has the styles at (4, 3, 4) / 11 and nothing else.

Measured every few rounds on prompts that neither SFT nor the methods see: style frequencies of 1,024 sampled answers.

Results: benchmarks/results/styles.json.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tokenizers
from jaxtyping import Array, Float
from tokenizers import models, pre_tokenizers

import llm_bridge as bridge
import mmd
from benchmarks import report
from llm_bridge.judges.callable import PairFunction
from llm_bridge.train import rollout
from llm_bridge.train.baselines.inpo import INPO
from llm_bridge.train.baselines.iterative_dpo import IterativeDPO
from llm_bridge.train.baselines.nash_md import NashMD
from llm_bridge.train.baselines.sft import SFT
from llm_bridge.train.baselines.sppo import SPPO
from llm_bridge.train.loop import Method

NOUNS = [
    "fox",
    "owl",
    "bear",
    "wolf",
    "hare",
    "crow",
    "deer",
    "frog",
    "swan",
    "goat",
    "mole",
    "seal",
    "toad",
    "lynx",
    "crab",
    "moth",
]
PLACES = ["river", "forest", "lake", "hill", "field", "garden", "bridge", "shore", "meadow", "valley", "tower", "cave"]
WORDS = ["quick", "quiet", "old", "small", "brave", "hungry", "proud", "gentle"]
WORDINGS = {
    "plain": ["the {noun} is {word} .", "it is a {word} {noun} .", "a {noun} , rather {word} ."],
    "polite": ["dear friend , the {noun} is {word} .", "the {noun} is {word} , if you please ."],
    "loud": ["wow ! the {noun} is so {word} !", "oh , what a {word} {noun} !", "so {word} , that {noun} !"],
}
STYLES = tuple(WORDINGS)
TAUGHT = (0.6, 0.3, 0.1)
EQUILIBRIUM = np.array([4, 3, 4]) / 11
PREFERENCE = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
LONGEST, EVERY, RATE = 12, 10, 0.05
SIZES: dict[str, Any] = {
    "group_size": 16,
    "prompts_per_round": 8,
    "max_new_tokens": LONGEST,
    "eta": 0.8,
    "learning_rate": 2e-3,
    "watch_start": False,
}


def question(noun: str, place: str) -> str:
    """A prompt."""
    return f"the {noun} by the {place} ?"


def prompts() -> tuple[list[str], list[str]]:
    """Those of training, and those held out: of every noun and every place others are trained on."""
    pairs = list(product(NOUNS, PLACES))
    order = np.random.default_rng(0).permutation(len(pairs))
    shown = [question(*pairs[i]) for i in order]
    return shown[:128], shown[128:]


def demonstrations(asked: Sequence[str], n: int) -> list[tuple[str, str]]:
    """Rows for SFT, styles drawn with probabilities `TAUGHT`."""
    rng, rows = np.random.default_rng(1), []
    for _ in range(n):
        prompt, style = str(rng.choice(asked)), str(rng.choice(STYLES, p=TAUGHT))
        wording = WORDINGS[style][rng.integers(len(WORDINGS[style]))]
        rows.append((prompt, wording.format(noun=_noun(prompt), word=rng.choice(WORDS))))
    return rows


def _noun(prompt: str) -> str:
    return prompt.split()[1]


@cache
def _forms() -> dict[str, re.Pattern[str]]:
    def pattern(wording: str) -> str:
        words = f"(?:{'|'.join(WORDS)})"
        return re.escape(wording).replace(r"\{noun\}", "(?P<noun>[a-z]+)").replace(r"\{word\}", words)

    return {f"{style} {i}": re.compile(pattern(w)) for style, all in WORDINGS.items() for i, w in enumerate(all)}


@cache
def style_of(prompt: str, answer: str) -> int | None:
    """Number of the style of an answer, None for none."""
    for name, form in _forms().items():
        found = form.fullmatch(answer)
        if found and found["noun"] == _noun(prompt):
            return STYLES.index(name.split()[0])
    return None


def preference(prompt: str, a: str, b: str) -> float:
    """The judge: P(a preferred to b)."""
    ours, theirs = style_of(prompt, a), style_of(prompt, b)
    if ours is None or theirs is None:
        return 0.5 + 0.5 * (ours is not None) - 0.5 * (theirs is not None)
    return float(PREFERENCE[ours, theirs])


def write_tokenizer(folder: Path) -> dict[str, int]:
    """One token a word, as a checkpoint has it; token ids by word."""
    wordings = [wording for of_style in WORDINGS.values() for wording in of_style]
    text = " ".join([question("fox", "river"), *NOUNS, *PLACES, *WORDS, *wordings])
    words = sorted(set(re.sub(r"\{\w+\}", " ", text).split()))
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *words])}
    inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | names))
    return vocabulary


def untrained(folder: Path) -> bridge.Policy:
    """A Llama of two layers with the tokenizer of a folder."""
    vocabulary = write_tokenizer(folder)
    config = {
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "eos_token_id": vocabulary["</s>"],
        "pad_token_id": vocabulary["<pad>"],
        "initializer_range": 0.05,
    }
    policy = bridge.init(config, jax.random.key(0))
    return bridge.Policy(policy.decoder, policy.arrays(), replace(policy.origin, folder=str(folder)))


def frequencies(policy: bridge.Policy, asked: Sequence[str], key: Array, n: int = 16) -> Float[np.ndarray, " 4"]:
    """Of the styles, and of answers in none, among `n` samples for each prompt."""
    tokenizer = rollout.tokenizer(policy.origin)
    rows = [prompt for prompt in asked for _ in range(n)]
    found = policy.generate([tokenizer.prompt(prompt) for prompt in rows], key=key, max_new_tokens=LONGEST)
    tokens, mask = np.asarray(found.tokens), np.asarray(found.mask)
    answers = [tokenizer.decode(row[made]) for row, made in zip(tokens, mask, strict=True)]
    styles = [style_of(prompt, answer) for prompt, answer in zip(rows, answers, strict=True)]
    return np.array([np.mean([one == style for one in styles]) for style in (0, 1, 2, None)])


def gap(shares: Float[np.ndarray, " 4"]) -> float:
    """Duality gap in the game of styles; an answer in none loses for certain."""
    wins = PREFERENCE @ shares[:3] + shares[3]
    return float(2 * (wins.max() - 0.5))


def methods(rounds: int) -> dict[str, Method]:
    """What is compared, one setting each."""
    judge = PairFunction(preference, symmetric=True)
    sizes: dict[str, Any] = SIZES | {"decay_rounds": rounds}
    return {
        "mpo": bridge.MPO(judge, magnet=mmd.MovingAverage(rate=RATE), **sizes),
        "inpo": INPO(judge, alpha=0.05, **sizes),
        "nash-md": NashMD(judge, alpha=0.05, **sizes),
        "sppo": SPPO(judge, **sizes),
        "iterative dpo": IterativeDPO(judge, **sizes),
    }


def course(method: Method, policy: bridge.Policy, asked: tuple[list[str], list[str]], rounds: int) -> dict[str, Any]:
    """Frequencies of the last iterate, of what is exported and of the weights' average, on held-out prompts."""
    found: dict[str, list[Any]] = {"round": [], "last": [], "exported": [], "average": []}
    key, average = jax.random.key(2), dict(policy.arrays())

    def watch(state: bridge.TrainState, _: Mapping[str, float]) -> None:
        for name, new in state.weights.items():
            average[name] = average[name] + RATE * (new - average[name])
        number = int(state.round)
        if number % EVERY:
            return
        found["round"].append(number)
        weights = {"last": state.weights, "average": average}
        weights |= {"exported": method.exported(state)} if isinstance(method, bridge.MPO) else {}
        for kind, one in weights.items():
            found[kind].append(frequencies(state.policy(one), asked[1], jax.random.fold_in(key, number)))

    method.fit(policy, asked[0], steps=rounds, key=jax.random.key(3), callback=watch)
    return {kind: marks for kind, marks in found.items() if marks}


def main() -> None:
    """Teach, train by each method, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=250)
    rounds, began = parser.parse_args().rounds, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        policy, asked = untrained(Path(folder)), prompts()
        sft = SFT(prompts_per_round=32, learning_rate=3e-3, eps=1e-8, watch_start=False)
        policy = sft.fit(policy, demonstrations(asked[0], 8192), steps=600, key=jax.random.key(1)).policy
        start = frequencies(policy, asked[1], jax.random.key(4))
        print("taught", np.round(start, 3), f"{time.process_time() - began:.0f} s", flush=True)
        results, rows = {}, []
        for name, method in methods(rounds).items():
            found = course(method, policy, asked, rounds)
            for kind in ("last", "exported" if name == "mpo" else "average"):
                end = found[kind][-1]
                rows.append([name, kind, *(f"{f:.3f}" for f in end), f"{gap(end):.3f}", f"{distance(end):.3f}"])
            results[name] = {"setting": {"eta": method.eta, "alpha": method.alpha}} | found
            report.print_table(("method", "weights", *STYLES, "none", "gap", "distance"), rows[-2:])
    report.print_table(("method", "weights", *STYLES, "none", "gap", "distance"), rows)
    report.store(
        "styles",
        {
            "environment": report.environment(),
            "cpu_seconds": round(time.process_time() - began),
            "rounds": rounds,
            "start": start,
            "equilibrium": EQUILIBRIUM,
            "results": results,
        },
    )


def distance(shares: Float[np.ndarray, " 4"]) -> float:
    """Largest difference of a style's frequency from the equilibrium's."""
    return float(np.abs(shares[:3] - EQUILIBRIUM).max())


if __name__ == "__main__":
    main()
