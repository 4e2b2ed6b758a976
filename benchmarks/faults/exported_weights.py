"""What a run exports, for every magnet, full weights and adapters, at lengths around a magnet's period.

    python -m benchmarks.faults.exported_weights

A decoder of one layer learns for 41 rounds; after 1, 2, 7, 39, 40 and 41 of them its result is exported. `change` is
how far the exported weights are from the start's, `error` how far they are from what the rule says, worked out in
NumPy from the last iterates: the magnet where it is an average, otherwise the last iterate. `magnet` is how far the
magnet was from the start, which version 0.1 exported: 0 is an untrained model that is called finished.
Results: benchmarks/results/exported_weights.json.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import llm_bridge as bridge
import mmd
from benchmarks.report import environment, print_table, store
from llm_bridge.judges.callable import PairFunction

LENGTHS = (1, 2, 7, 39, 40, 41)
CONFIG = {
    "model_type": "llama",
    "vocab_size": 4,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
SIZES = {"group_size": 4, "prompts_per_round": 2, "max_new_tokens": 2, "epochs": 1, "learning_rate": 1e-3, "eps": 1e-3}
PROMPTS = [[0], [1, 2]]
MAGNETS: dict[str, tuple[Any, Callable[[int], float]]] = {  # and the share of the policy after round k
    "fixed": (mmd.Fixed(), lambda k: 0.0),
    "refresh=40": (mmd.Refresh(every=40), lambda k: float(k % 40 == 0)),
    "refresh=7": (mmd.Refresh(every=7), lambda k: float(k % 7 == 0)),
    "moving=0.025": (mmd.MovingAverage(rate=0.025), lambda k: 0.025),
    "moving=0.5,power=4": (mmd.MovingAverage(rate=0.5, power=4.0), lambda k: min(0.5, 5 / (k + 4))),
    "halpern": (mmd.Halpern(), lambda k: 0.0),
}
CLOSE = 1e-6


def prefers(prompt: Any, a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """A cycle over the sum of token ids modulo 3."""
    return (0.5, 0.9, 0.1)[(sum(a) - sum(b)) % 3]


def largest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of two sets of weights."""
    return max(float(np.abs(np.asarray(one[name], np.float64) - other[name]).max()) for name in other)


def measure(name: str, start: bridge.Policy) -> dict[str, Any]:
    """Changes and errors by length; the sentence of the refusal where the magnet cannot be one of these weights."""
    magnet, share = MAGNETS[name]
    method = bridge.MPO(PairFunction(prefers), magnet=magnet, decay_rounds=max(LENGTHS), **SIZES)
    try:
        state = method.init(start, jax.random.key(1))
    except bridge.BridgeError as error:
        return {"refused": str(error)}
    begun = {n: np.array(w, np.float64) for n, w in state.weights.items()}
    mean, questions, found = dict(begun), method.read(start, PROMPTS), []
    for k in range(1, max(LENGTHS) + 1):
        state, _ = method.round(state, questions)
        last = {n: np.array(w, np.float64) for n, w in state.weights.items()}
        mean = {n: mu + share(k) * (last[n] - mu) for n, mu in mean.items()}
        if k in LENGTHS:
            exported = method.export(state).arrays()
            expected = mean if name.startswith("moving") else last
            one = {"rounds": k, "change": largest(exported, begun), "error": largest(exported, expected)}
            found.append(one | {"magnet": largest(state.magnet, begun)})
    return {"lengths": found}


def main() -> None:
    """Measure all, print, store."""
    base = bridge.init(CONFIG, jax.random.key(0))
    starts = {"full": base, "lora": bridge.add_adapter(base, jax.random.key(2), rank=2, alpha=4.0)}
    results, rows = {}, []
    for kind, start in starts.items():
        for name in MAGNETS:
            one = results[f"{name} | {kind}"] = measure(name, start)
            for at in one.get("lengths", ()):
                numbers = [f"{at[key]:.1e}" for key in ("change", "error", "magnet")]
                rows.append([name, kind, str(at["rounds"]), *numbers])
    print_table(("magnet", "weights", "rounds", "change", "error", "magnet"), rows)
    lengths = [at for one in results.values() for at in one.get("lengths", ())]
    right = sum(at["change"] > CLOSE and at["error"] < CLOSE for at in lengths)
    untrained = sum(at["magnet"] == 0 for at in lengths)
    print(f"\n{right} of {len(lengths)} exports are trained and what the rule says; {untrained} magnets are the start")
    counts = {"exports": len(lengths), "right": right, "magnets_at_the_start": untrained}
    store("exported_weights", {"environment": environment(), "counts": counts, "results": results})


if __name__ == "__main__":
    main()
