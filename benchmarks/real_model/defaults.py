"""What the numbers that `mpo train` takes by itself do, beside those of version 0.1 and some in between.

    python -m benchmarks.real_model.defaults

A Llama from scratch answers eight prompts with 16 tokens; all weights are trained, or an adapter of rank 8, for 16
rounds of 8 prompts x 8 answers. The judge prefers the answer with more tokens of one third of the vocabulary. Told are
the win rate against the start over all pairs, the divergence from it, and the entropy.

Results: benchmarks/results/training_defaults.json.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

import llm_bridge as bridge
import mmd
from benchmarks.report import environment, print_table, store
from llm_bridge.command.defaults import resolved
from llm_bridge.command.options import Train
from mmd.host.command_line import rate_and_power

CONFIG = {
    "model_type": "llama",
    "vocab_size": 33,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.12,
    "tie_word_embeddings": True,
}
PROMPTS = [[token, token + 1] for token in range(8)]
TOKENS, ROUNDS, DRAWN, TIMES = 16, 16, 8, 4  # of an answer; of a run; answers to a prompt that are drawn at once
SIZES = {"group_size": 8, "prompts_per_round": 8, "max_new_tokens": TOKENS, "decay_rounds": ROUNDS}
KEY = jax.random.key(3)
OLD = {"learning_rate": 1e-5, "eta": 0.4, "alpha": 0.1}
CHANGES: dict[str, dict[str, Any]] = {  # of the defaults
    "version 0.1": OLD,
    "eta and alpha of 0.1": {"eta": 0.4, "alpha": 0.1},
    "defaults": {},
    "learning rate x 4": {"learning_rate": 4.0},
    "eta x 10": {"eta": 10.0},
}


def thirds(answers: Any) -> np.ndarray:
    """[n, 3] how many tokens of each third of the vocabulary an answer has."""
    return np.array([np.bincount(np.asarray(answer) % 3, minlength=3) for answer in answers])


def transitive(prompts: Any, a: Any, b: Any) -> np.ndarray:
    """Prefers more tokens of the first third."""
    return 1 / (1 + np.exp((thirds(b)[:, 0] - thirds(a)[:, 0]) / 2.0))


def settings(policy: bridge.Policy, change: dict[str, Any]) -> dict[str, Any]:
    """Numbers of a run: the command's own, changed."""
    options = Train(model_name_or_path="m", dataset_name=Path("d"), output_dir=Path("o"), max_new_tokens=TOKENS)
    own = resolved(options, policy)
    found = {name: getattr(own, name) for name in OLD}
    if "learning_rate" in change and "eta" not in change:
        found["learning_rate"] *= change["learning_rate"]
    elif change.keys() == {"eta"}:
        found |= {"eta": found["eta"] * change["eta"], "alpha": found["alpha"] / change["eta"]}
    else:
        found |= change
    kind, _, number = str(own.magnet).partition("=")
    adapted = kind == "refresh"
    if "alpha" in change:  # the magnet of 0.1
        number = "40" if adapted else "0.025"
    rate, _ = (0.0, 0.0) if adapted else rate_and_power(number)
    return found | {"magnet": mmd.Refresh(every=int(number)) if adapted else mmd.MovingAverage(rate=rate)}


def answers(policy: bridge.Policy, number: int) -> list[list[np.ndarray]]:
    """Answers to each prompt, as many at once as in a round."""
    rows = [prompt for prompt in PROMPTS for _ in range(DRAWN)]
    found: list[list[np.ndarray]] = [[] for _ in PROMPTS]
    for i in range(TIMES):
        key = jax.random.fold_in(jax.random.fold_in(KEY, number), i)
        drawn = policy.generate(rows, key=key, max_new_tokens=TOKENS)
        pairs = zip(np.asarray(drawn.tokens), np.asarray(drawn.mask), strict=True)
        for j, (row, marked) in enumerate(pairs):
            found[j // DRAWN].append(row[marked])
    return found


def win_rate(ours: list[list[np.ndarray]], theirs: list[list[np.ndarray]]) -> float:
    """Over all pairs of answers to a prompt, mean over prompts."""
    won = []
    for mine, other in zip(ours, theirs, strict=True):
        pairs = [(a, b) for a in mine for b in other]
        won.append(transitive(None, [a for a, _ in pairs], [b for _, b in pairs]).mean())
    return float(np.mean(won))


def main() -> None:
    """Run, print and store."""
    start, found = bridge.init(CONFIG, jax.random.key(0)), []
    before = answers(start, 0)
    found.append({"trained": "nothing", "setting": "start", "win_rate": win_rate(answers(start, 1), before)})
    for kind, given in (("all weights", start), ("adapter", bridge.add_adapter(start, KEY, rank=8, alpha=16.0))):
        for name, change in CHANGES.items():
            numbers = settings(given, change)
            result = bridge.MPO(transitive, exports="last", **SIZES, **numbers).fit(
                given, PROMPTS, steps=ROUNDS, key=KEY
            )
            row = {"trained": kind, "setting": name, "win_rate": win_rate(answers(result.policy, 1), before)}
            newest = {k: result.history[-1][k] for k in ("kl/initial", "entropy")}
            shown = {k: v for k, v in numbers.items() if k != "magnet"} | {"magnet": repr(numbers["magnet"])}
            found.append(row | newest | shown)
            print(found[-1], flush=True)
    names = ("trained", "setting", "win_rate", "kl/initial", "entropy")
    cells = [[row.get(name, "") for name in names] for row in found]
    print_table(names, [[f"{c:.3f}" if isinstance(c, float) else c for c in row] for row in cells])
    store("training_defaults", {"rounds": ROUNDS, "tokens": TOKENS, "runs": found, **environment()})


if __name__ == "__main__":
    main()
