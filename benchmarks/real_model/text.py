"""The text of `benchmarks.real_model.demo`: real preference pairs split by prompt, a tokenizer, rows of token ids."""

import collections
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_bridge.judges.preference_model import SEPARATORS
from llm_bridge.text import data
from llm_bridge.text.tokenizer import Tokenizer

PAD, BOS, EOS, USER, ASSISTANT = "<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}" + USER + "{{ message['content'] }}"
    "{% else %}" + ASSISTANT + "{{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}" + ASSISTANT
)
HUMAN, REPLY = "Human: ", "Assistant:"  # how the turns of hh-rlhf begin
Pair = dict[str, Any]
Ids = tuple[int, ...]


def read(path: Path) -> list[Pair]:
    """The pairs of a file that have a winner, each prompt as messages."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row | {"prompt": messages(row["prompt"])} for row in rows if row.get("p_chosen", 1.0) != 0.5]


def messages(prompt: str) -> list[dict[str, str]]:
    """A prompt as a conversation; its turns, where it has them."""
    if not prompt.startswith(HUMAN):
        return [{"role": "user", "content": prompt}]
    turns = []
    for part in f"\n\n{prompt}".split(f"\n\n{HUMAN}")[1:]:
        asked, *replies = part.split(f"\n\n{REPLY}")
        turns.append({"role": "user", "content": asked.strip()})
        turns += [{"role": "assistant", "content": reply.strip()} for reply in replies if reply.strip()]
    return turns


def half(prompt_id: str) -> int:
    """0 or 1, by the prompt alone."""
    return hashlib.sha256(prompt_id.encode()).digest()[0] % 2


def halves(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs in two parts without a common prompt."""
    first, second = ([pair for pair in pairs if half(pair["prompt_id"]) == side] for side in (0, 1))
    return first, second


def make_tokenizer(pairs: Sequence[Pair], vocabulary: int, folder: Path) -> None:
    """Train byte-level BPE on the pairs' texts and write it as a Hugging Face folder.

    The headings of the judge's rows are tokens of their own; the same letters in an answer are not.
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS, USER, ASSISTANT, *SEPARATORS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    said = {message["content"] for pair in pairs for message in pair["prompt"]}
    fast.train_from_iterator(sorted(said | {pair[side] for pair in pairs for side in ("chosen", "rejected")}), trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=fast, pad_token=PAD, bos_token=BOS, eos_token=EOS)
    whole.chat_template = TEMPLATE
    whole.save_pretrained(folder)


def short(pairs: Sequence[Pair], words: Tokenizer, longest: int) -> list[Pair]:
    """The pairs whose prompt has at most so many tokens."""
    return [pair for pair in pairs if len(words.prompt(pair["prompt"])) <= longest]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def prompts(pairs: Sequence[Pair]) -> list[Mapping[str, Any]]:
    """Each prompt once, in the order in which it comes first."""
    return [{"prompt": prompt} for prompt in {json.dumps(pair["prompt"]): pair["prompt"] for pair in pairs}.values()]


def sources(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs are of which source."""
    return dict(collections.Counter(pair["source"] for pair in pairs).most_common())


def documents(pairs: Sequence[Pair], words: Tokenizer, longest: int) -> list[Ids]:
    """Each prompt with each of its answers, the first tokens of it."""
    texts = {(json.dumps(pair["prompt"]), pair[side]) for pair in pairs for side in ("chosen", "rejected")}
    return [tuple(words.completed(json.loads(prompt), answer)[0][:longest]) for prompt, answer in sorted(texts)]


def packed(given: Sequence[Ids], length: int, seed: int) -> list[tuple[Ids, Ids]]:
    """Documents in a random order, end to end, in rows of one length; the first token of a row is only read."""
    order = np.random.default_rng(seed).permutation(len(given))
    stream = [token for i in order for token in given[i]]
    rows = [tuple(stream[i : i + length]) for i in range(0, len(stream) - length + 1, length)]
    return [(row[:1], row[1:]) for row in rows]


def demonstrations(rows: Sequence[data.Row], words: Tokenizer, longest: int) -> list[tuple[Ids, Ids]]:
    """Each prompt with the beginning of each answer that was chosen; EOS where the answer ends before the cut."""
    found = {}
    for row in rows:
        ids, n = words.completed(row.prompt, row.chosen or "")
        found[tuple(ids[:n]), tuple(ids[n : n + longest])] = None
    return list(found)


def unigram_perplexity(train: Sequence[Ids], dev: Sequence[Ids], vocabulary: int) -> float:
    """Of the frequencies of tokens, one added to each; a document's first token is not predicted."""
    counts = np.ones(vocabulary) + np.bincount(np.concatenate([row[1:] for row in train]), minlength=vocabulary)
    surprise = -np.log(counts / counts.sum())
    return math.exp(float(np.mean(surprise[np.concatenate([row[1:] for row in dev])])))
