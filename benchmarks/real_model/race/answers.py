"""Answers of policies to prompts that they were not trained on, drawn and read in pieces.

A file has a line for each prompt: its answers, what the start model finds of them (`reader.Read`), and what judges of
human pairs are shown. A piece is a few prompts with a random key of its own, so a file that is gone on with is the file
that would have been written at once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.real_model.race.human import HumanJudge
from benchmarks.real_model.race.reader import Read, Reader, chat, own_likelihood
from llm_bridge.policy.policy import Policy

AT_A_TIME = 8  # prompts


def collect(
    path: Path,
    policy: Policy,
    reader: Reader,
    prompts: Sequence[str],
    judges: Mapping[str, HumanJudge],
    late: Callable[[], bool],
    *,
    n: int,
    tokens: int,
    seed: int,
) -> bool:
    """Go on with a file until every prompt has its line or it is late; whether every prompt has.

    Args:
        path: of the file.
        policy: which answers.
        reader: of the answers.
        prompts: in order.
        judges: of human pairs, by name.
        late: whether the time is over.
        n: answers to a prompt.
        tokens: of an answer, at most.
        seed: of the draws; another policy should have another one.
    """
    begun = len(rows(path)) // AT_A_TIME * AT_A_TIME
    kept = path.read_text("utf-8").splitlines(keepends=True)[:begun] if begun else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(kept), "utf-8")
    for begin in range(begun, len(prompts), AT_A_TIME):
        if late():
            return False
        few = prompts[begin : begin + AT_A_TIME]
        key = jax.random.fold_in(jax.random.key(seed), begin)
        lines = [json.dumps(row) for row in _piece(policy, reader, few, judges, key, n, tokens)]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    return True


def _piece(
    policy: Policy,
    reader: Reader,
    prompts: Sequence[str],
    judges: Mapping[str, HumanJudge],
    key: Any,
    n: int,
    tokens: int,
) -> list[dict[str, Any]]:
    asked = [chat(reader.words, prompt) for prompt in prompts for _ in range(n)]
    drawn = policy.generate(asked, key=key, max_new_tokens=tokens)
    ids, mask, logs = (np.asarray(part) for part in drawn[:3])
    texts = [reader.words.decode(row[marked]) for row, marked in zip(ids, mask, strict=True)]
    shown = [prompt for prompt in prompts for _ in range(n)]
    found = reader(shown, texts)
    tokens_of = [
        (row[marked].tolist(), some[marked].tolist()) for row, some, marked in zip(ids, logs, mask, strict=True)
    ]
    own = [own_likelihood(reader.words, *one, text) for one, text in zip(tokens_of, texts, strict=True)]
    seen = {name: judge.shown(shown, texts).tolist() for name, judge in judges.items()}
    return [
        {
            "prompt": prompt,
            "answers": texts[i : i + n],
            "likelihood": [read.likelihood for read in found[i : i + n]],
            "start": [read.total for read in found[i : i + n]],
            "own": [None if value != value else value for value in own[i : i + n]],
            "nats": [-sum(some) for _, some in tokens_of[i : i + n]],
            "distinct": [read.distinct for read in found[i : i + n]],
            "shown": {name: values[i : i + n] for name, values in seen.items()},
        }
        for i, prompt in zip(range(0, len(texts), n), prompts, strict=True)
    ]


def rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def reads(row: Mapping[str, Any]) -> list[Read]:
    """What the start model found of a line's answers, without thoughts."""
    parts = (row["likelihood"], row["start"], row["distinct"])
    return [Read(*each, np.zeros(0)) for each in zip(*parts, strict=True)]
