"""Language-model policies on one processor core, beside torch transformers in the same run.

    python -m benchmarks.device.policies [--torch .peers/torch/bin/python] [--only small]

Two Llamas with random weights, 0.5 and 25 million parameters, continue 16 prompts of 32 tokens by 32 to 256 tokens,
and score 16 rows of 128 tokens with the gradient of their log-probabilities. Both programs read the same checkpoint,
use one thread, and are pinned to the same core one after the other. Of a few repeats the fastest counts, by the wall
clock and by the processor's seconds; the machine is shared, so the second is the one to compare.

XLA asks for the memory of a call at once and gives it back, so a system that hands out pages of 4 KiB takes much of the
time of a gradient. The scores are measured again with freed memory kept by the process, and with huge pages, which both
programs get by settings of glibc; and the gradient is also taken of one half of the rows after the other and added up,
which needs half the memory. The programs take turns at the scores.

The floor of a decoding step is the larger of two times: to read all weights once at the bandwidth of a copy, and to
do its operations at the rate of a large product of matrices; both are measured here. Without torch only this package
is measured. Each model is stored as soon as it is measured; `--only` leaves the other's rows as they are. Results:
benchmarks/results/policies.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import RESULTS, environment, print_table, store

LLAMA = {"model_type": "llama", "rope_theta": 500_000.0, "max_position_embeddings": 1024, "tie_word_embeddings": True}
MODELS: dict[str, dict[str, Any]] = {
    "small": LLAMA
    | {
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
    },
    "large": LLAMA
    | {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 4000,
    },
}
N_PROMPTS, PROMPT_LENGTH, ROW_LENGTH = 16, 32, 128
NEW_TOKENS = (32, 256)
REPEATS = {"small": 8, "large": 3}
TURNS = 2  # of the scores
KEPT = str(2**30)  # bytes
AGAIN: dict[str, dict[str, str]] = {
    "": {},
    ", kept memory": {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": KEPT, "MALLOC_TRIM_THRESHOLD_": KEPT},
    ", huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}
COPY_BYTES, MATRIX = 2**27, 1024
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


def workload(name: str) -> dict[str, Any]:
    """The tokens that both programs get."""
    vocabulary = MODELS[name]["vocab_size"]
    rng = np.random.default_rng(0)
    return {
        "prompts": rng.integers(3, vocabulary, (N_PROMPTS, PROMPT_LENGTH)).tolist(),
        "rows": rng.integers(3, vocabulary, (N_PROMPTS, ROW_LENGTH)).tolist(),
        "new_tokens": NEW_TOKENS,
        "repeats": REPEATS[name],
    }


def best(run: Callable[[], object], repeats: int = 3) -> dict[str, float]:
    """The first call, and the least wall-clock and processor seconds of a few after it."""
    begun = time.perf_counter()
    run()
    first = time.perf_counter() - begun
    wall, processor = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - used)
    return {"first_call_seconds": first, "seconds": min(wall), "processor_seconds": min(processor)}


def measure_here(folder: str, work: dict[str, Any]) -> dict[str, Any]:
    """This package on a checkpoint; runs in a process of its own, pinned before JAX starts."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import llm_bridge as bridge

    policy = bridge.load(folder)
    rows, key = np.array(work["rows"]), jax.random.key(0)
    mask = np.ones(rows.shape, bool)
    gradient = nnx.jit(nnx.grad(lambda policy, rows, mask: -policy.log_probs(rows, mask).sum()))
    results = {
        f"generate {n}": best(
            lambda n=n: jax.block_until_ready(policy.generate(work["prompts"], key=key, max_new_tokens=n, stop=())),
            work["repeats"],
        )
        for n in work["new_tokens"]
    }

    def in_halves() -> Any:
        halves = [gradient(policy, *half) for half in zip(np.split(rows, 2), np.split(mask, 2), strict=True)]
        return jax.tree.map(jnp.add, *halves)

    for job, train in (("", lambda: gradient(policy, rows, mask)), (", in halves", in_halves)):
        results[f"log_probs and gradient{job}"] = best(lambda t=train: jax.block_until_ready(t()), work["repeats"])
    return {"results": results, "floor": floor()}


def floor() -> dict[str, float]:
    """Bytes a second of a copy, and operations a second of a large product, both in float32."""
    import jax
    import jax.numpy as jnp

    source = np.ones(COPY_BYTES // 4, np.float32)
    target = np.empty_like(source)
    copied = best(lambda: np.copyto(target, source))["processor_seconds"]
    matrix = jnp.ones((MATRIX, MATRIX), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    multiplied = best(lambda: multiply(matrix, matrix).block_until_ready())["processor_seconds"]
    return {"bytes_per_second": 2 * source.nbytes / copied, "operations_per_second": 2 * MATRIX**3 / multiplied}


def pinned(command: list[str], variables: dict[str, str]) -> dict[str, Any]:
    """The JSON that a program prints, run on one core."""
    cores = os.sched_getaffinity(0)
    alone = os.environ | {"OMP_NUM_THREADS": "1", "XLA_FLAGS": ONE_THREAD, "JAX_PLATFORMS": "cpu"} | variables
    os.sched_setaffinity(0, {min(cores)})  # which the program inherits
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=alone)
    finally:
        os.sched_setaffinity(0, cores)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def keep_least(results: dict[str, Any], again: dict[str, Any]) -> None:
    """Take over what is new or took less time."""
    for job, seconds in again.items():
        known = results.setdefault(job, seconds)
        results[job] = {name: min(value, known[name]) for name, value in seconds.items()}


def measure(name: str, torch: str | None, scratch: Path) -> dict[str, Any]:
    """One model by both programs."""
    import jax

    import llm_bridge as bridge
    from llm_bridge.model.weights import count

    config = MODELS[name]
    policy = bridge.init(config, jax.random.key(0))
    folder = str(bridge.save(policy, scratch / name))
    work = workload(name)
    found: dict[str, Any] = {"parameters": count(policy.architecture)}
    (both := scratch / f"{name}.json").write_text(json.dumps(work))
    (scores := scratch / f"{name}_scores.json").write_text(json.dumps(work | {"new_tokens": []}))
    commands = {"ours": [sys.executable, "-m", "benchmarks.device.policies", "--worker"]}
    if torch:
        commands["transformers"] = [torch, str(Path(__file__).parents[1] / "peers" / "run_transformers.py")]
    for program, command in commands.items():
        found[program] = pinned([*command, folder, str(both)], {})
    for _ in range(TURNS):
        for setting, variables in AGAIN.items():
            for program, command in commands.items():
                again = pinned([*command, folder, str(scores)], variables)["results"]
                keep_least(found[program]["results"], {job + setting: seconds for job, seconds in again.items()})
    speeds = found["ours"]["floor"]
    by_bytes = 4 * found["parameters"] / speeds["bytes_per_second"]
    by_operations = 2 * N_PROMPTS * found["parameters"] / speeds["operations_per_second"]
    return found | {"floor_of_a_step": {"bytes": by_bytes, "operations": by_operations}}


def stored() -> dict[str, Any]:
    """Rows of the last measurement."""
    path = RESULTS / "policies.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def report(results: dict[str, Any]) -> None:
    """A row for each model and job."""
    rows = []
    for name, found in results.items():
        floors = found["floor_of_a_step"]
        print(
            f"{name}: a step of decoding takes at least {1e3 * floors['bytes']:.2f} ms to read the weights and", end=" "
        )
        print(f"{1e3 * floors['operations']:.2f} ms for its operations")
        for job, ours in found["ours"]["results"].items():
            theirs = found.get("transformers", {}).get("results", {}).get(job)
            n_new = int(job.split()[1]) if job.startswith("generate") else 0
            tokens = N_PROMPTS * (n_new or ROW_LENGTH)
            rows.append(
                (
                    f"{name} ({found['parameters'] / 1e6:.1f}M)",
                    job,
                    f"{tokens / ours['seconds']:.0f}",
                    f"{tokens / theirs['seconds']:.0f}" if theirs else "",
                    f"{theirs['seconds'] / ours['seconds']:.2f}" if theirs else "",
                    f"{theirs['processor_seconds'] / ours['processor_seconds']:.2f}" if theirs else "",
                    f"{ours['processor_seconds'] / (n_new * max(floors.values())):.1f}" if n_new else "",
                    f"{ours['first_call_seconds']:.1f}",
                )
            )
    columns = (
        "model",
        "job",
        "tokens/s",
        "transformers",
        "times faster",
        "by processor time",
        "floors",
        "first call s",
    )
    print_table(columns, rows)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="a Python with torch and transformers (default: .peers/torch, if there)")
    parser.add_argument("--only", choices=list(MODELS), help="one of the models; rows of the other stay")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "WORKLOAD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, work = arguments.worker
        print(json.dumps(measure_here(folder, json.loads(Path(work).read_text()))))
        return
    peer = Path(".peers/torch/bin/python")
    torch = arguments.torch or (str(peer) if peer.exists() else None)
    results = stored()
    with tempfile.TemporaryDirectory() as scratch:
        for name in [arguments.only] if arguments.only else MODELS:
            results[name] = measure(name, torch, Path(scratch)) | {"commit": environment()["commit"]}
            store("policies", {"environment": environment(), "results": results})
    report(results)


if __name__ == "__main__":
    main()
