"""What `benchmarks.real_model.demo` measures of models and judges."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.real_model.text import Ids, Pair
from llm_bridge.judges.preference_model import PreferenceModel
from llm_bridge.measure.intervals import clustered
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy
from llm_bridge.text import data


def perplexity(policy: Policy, before: Sequence[Ids], after: Sequence[Ids] | None = None) -> float:
    """Of each row's tokens but the first; where there are two parts, of the second's."""
    after = after or [()] * len(before)
    n_read = [len(first) if second else 1 for first, second in zip(before, after, strict=True)]
    whole = [first + second for first, second in zip(before, after, strict=True)]
    length, total = bucket(max(map(len, whole)), 1), 0.0
    for begin in range(0, len(whole), 32):
        part = whole[begin : begin + 32]
        part = part + part[:1] * (32 - len(part))
        tokens, mask = np.zeros((32, length), np.int32), np.zeros((32, length), bool)
        for i, row in enumerate(part):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        found = np.asarray(policy.log_probs(tokens, mask))
        total += sum(float(found[i, n:].sum()) for i, n in enumerate(n_read[begin : begin + 32]))
    return math.exp(-total / sum(len(row) - n for row, n in zip(whole, n_read, strict=True)))


def accuracy(judge: PreferenceModel, pairs: Sequence[data.Row], known: Sequence[Pair]) -> dict[str, Any]:
    """How often a judge is right, in all and by source; prompts are the clusters of its error."""
    said = replace(judge, rows=64)(
        [row.text for row in pairs], [row.chosen for row in pairs], [row.rejected for row in pairs]
    )
    truth = np.array([row.p_chosen for row in pairs])
    right = 0.5 + 0.5 * np.sign((said - 0.5) * (truth - 0.5))
    gap = np.array([len(row.chosen or "") - len(row.rejected or "") for row in pairs])
    longer = 0.5 + 0.5 * np.sign(gap * (truth - 0.5))
    prompts = [pair["prompt_id"] for pair in known]
    by_source = {}
    for source in Counter(pair["source"] for pair in known):
        here = np.array([pair["source"] == source for pair in known])
        names = [prompt for prompt, kept in zip(prompts, here, strict=True) if kept]
        share, error = by_cluster(right[here], names)
        by_source[source] = {"n": int(here.sum()), "accuracy": share, "error": error, "longer": longer[here].mean()}
    share, error = by_cluster(right, prompts)
    first = float(np.mean(np.random.default_rng(0).random(len(pairs)) < 0.5))  # of pairs shown in random order
    whole = {"n": len(pairs), "prompts": len(set(prompts)), "accuracy": share, "error": error}
    return plain(whole | {"longer": longer.mean(), "majority": max(first, 1 - first), "by_source": by_source})


def by_cluster(values: np.ndarray, names: Sequence[str]) -> tuple[float, float]:
    """Mean and standard error over clusters with these names."""
    _, index = np.unique(names, return_inverse=True)
    return clustered(np.bincount(index, values).tolist(), np.bincount(index).tolist())


def plain(value: Any) -> Any:
    """Numbers of NumPy as JSON has them; None for what is not a number."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
