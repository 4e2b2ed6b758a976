"""The memory that `mpo train` says it needs before it begins, beside what the compiled update takes.

    python -m benchmarks.training_memory

A Llama of 29 million parameters is trained whole, with layers recomputed, with accumulated gradients, in bfloat16, and
with an adapter. The budget is counted from shapes (`llm_bridge/memory.py`). What it is compared with is XLA's
assignment of buffers: arguments, results and everything in between of a round's update, and what is kept besides. It is
the peak that the arrays reach, to the byte; the interpreter and the compiler's own memory are not in it.

Results: benchmarks/results/training_memory.json.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp

import llm_bridge as bridge
import mmd
from benchmarks.report import environment, print_table, store
from llm_bridge import learning, memory, sharding
from llm_bridge.arena import Samples
from llm_bridge.compute import Compute
from llm_bridge.objective import Judged

CONFIG = {
    "model_type": "llama",
    "vocab_size": 8000,
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
N_PROMPTS, GROUP, LENGTH = 4, 4, 256
CASES: dict[str, dict[str, Any]] = {
    "whole": {},
    "whole, layers recomputed": {"remat": "layer"},
    "whole, projections kept": {"remat": "projections"},
    "whole, a prompt at a time": {"prompts_at_a_time": 1},
    "whole, bfloat16": {"dtype": "bfloat16"},
    "adapter of rank 8": {"rank": 8},
    "adapter of rank 8, layers recomputed": {"rank": 8, "remat": "layer"},
}


def measure(remat: str = "none", dtype: str = "float32", rank: int = 0, prompts_at_a_time: int | None = None) -> Any:
    """One way to train."""
    policy = bridge.init(CONFIG, jax.random.key(0), dtype=dtype, compute=Compute(remat=remat))  # type: ignore
    if rank:
        policy = bridge.add_adapter(policy, jax.random.key(1), rank=rank, alpha=16.0)
    magnet = mmd.Refresh(every=40) if rank else mmd.MovingAverage(rate=0.025)
    method = bridge.MPO(group_size=GROUP, magnet=magnet, prompts_at_a_time=prompts_at_a_time)
    state = method.init(policy, jax.random.key(2))
    n_rows = N_PROMPTS * GROUP

    def rows(kind: Any) -> jax.Array:
        return jnp.zeros((n_rows, LENGTH), kind)

    samples = Samples(rows(jnp.int32), rows(bool), rows(bool), rows(jnp.float32))
    judged = Judged(jnp.zeros((N_PROMPTS, GROUP)), jnp.zeros((N_PROMPTS, GROUP, GROUP)))
    others = (state.base, state.magnet, state.initial)
    given = learning.Given(samples, judged, method.numbers(state), jnp.zeros(()), *others)
    trained = learning.Trained(state.weights, state.optimizer, state.counters)
    update: Any = sharding.program(learning._steps, method.plan(state), trained)
    found = update.lower(trained, given).compile().memory_analysis()
    taken = found.argument_size_in_bytes + found.temp_size_in_bytes
    taken += found.output_size_in_bytes - found.alias_size_in_bytes
    besides = sum(array.nbytes for name, array in policy.arrays().items() if name not in state.base)
    learned = (prompts_at_a_time or N_PROMPTS) * GROUP
    budget = memory.training(policy, memory.Rows(LENGTH, learned, n_rows), copies=3)
    return {
        "predicted_bytes": budget.total,
        "parts": dict(budget.parts),
        "measured_bytes": taken + besides,
        "temporary_bytes": found.temp_size_in_bytes,
        "measured_over_predicted": (taken + besides) / budget.total,
    }


def main() -> None:
    """Compile, compare, print, store."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    results = {name: measure(**case) for name, case in CASES.items()}
    print_table(
        ("training", "predicted MiB", "measured MiB", "measured / predicted"),
        [
            (
                name,
                *(f"{found[part] / 2**20:.0f}" for part in ("predicted_bytes", "measured_bytes")),
                f"{found['measured_over_predicted']:.3f}",
            )
            for name, found in results.items()
        ],
    )
    rows = {"prompts": N_PROMPTS, "group": GROUP, "length": LENGTH}
    store("training_memory", {"environment": environment(), "rows": rows, "results": results})


if __name__ == "__main__":
    main()
