"""Language-model policies on one GPU: decoding as a share of its bandwidth, training as a share of its arithmetic.

    python -m benchmarks.device.gpu_policies [--small] [--budget 540]        (or: make bench-gpu)

Two Qwen3 of the published shapes, 0.6 and 1.7 billion parameters, with random weights in bfloat16.

Decoding: 64 prompts of 128 tokens are continued. A step has to read all weights and the whole cache; these bytes,
divided by its time, are the achieved bandwidth, here as a share of that of a large array copied on the same device. The
time of a step is the difference of two lengths in one compiled program, so prompts and dispatch are not in it.

Training: the gradient of the log-probabilities of 8 rows of 1,024 tokens and a step of Adam. Its operations are 6 for
each parameter and token and 6 L H C T for the causal scores of a token; what is recomputed does not count. Their rate
is given as a share of that of a large bfloat16 product of matrices (model FLOPs utilisation, MFU).

Nothing new is begun after `--budget` seconds. `--small` takes small models, on any device. It needs the packages jax,
flax, optax, numpy, scipy, rich and jaxtyping. Results: benchmarks/results/gpu_policies.json, or
gpu_policies_small_PLATFORM.json.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import llm_bridge as bridge
from benchmarks.device.gpu import COPY_BYTES, GB, REPEATS, SMALL_COPY_BYTES, copy_bandwidth
from benchmarks.report import environment, print_table, store
from benchmarks.timing import seconds_per_step
from llm_bridge.model.weights import count
from llm_bridge.policy.generate import bucket

QWEN3 = {
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
LARGE_SHAPE = {"num_hidden_layers": 28, "vocab_size": 151_936}
SMALL_SHAPE = {"num_hidden_layers": 2, "vocab_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
MODELS = {
    "Qwen3 0.6B": QWEN3 | LARGE_SHAPE | {"hidden_size": 1024, "intermediate_size": 3072},
    "Qwen3 1.7B": QWEN3 | LARGE_SHAPE | {"hidden_size": 2048, "intermediate_size": 6144},
}
SMALL = {"small Qwen3": QWEN3 | SMALL_SHAPE | {"hidden_size": 64, "intermediate_size": 192, "head_dim": 16}}
SIZES: dict[str, Any] = {"prompts": 64, "prompt": 128, "new": (193, 256), "rows": 8, "row": 1024, "matrix": 8192}
SMALL_SIZES: dict[str, Any] = {"prompts": 8, "prompt": 16, "new": (257, 384), "rows": 2, "row": 64, "matrix": 512}


def operations_per_second(width: int) -> float:
    """Of a product of two bfloat16 matrices, again and again on the device."""

    @jax.jit
    def multiply(matrix: jax.Array, times: int) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, a: (a @ matrix) * 1e-2, matrix)

    matrix = jnp.ones((width, width), jnp.bfloat16) * 0.01
    jax.block_until_ready(multiply(matrix, 1))
    seconds = min(seconds_per_step(lambda n: jax.block_until_ready(multiply(matrix, n))) for _ in range(REPEATS))
    return 2 * width**3 / seconds


def decode(policy: bridge.Policy, sizes: dict[str, Any]) -> dict[str, float]:
    """Seconds of a step for all prompts, and the bytes that it has to read."""
    a, key = policy.architecture, jax.random.key(1)
    prompts = np.random.default_rng(0).integers(3, a.vocabulary, (sizes["prompts"], sizes["prompt"])).tolist()
    few, many = sizes["new"]

    def seconds(n_new: int) -> float:
        begun = time.perf_counter()
        jax.block_until_ready(policy.generate(prompts, key=key, max_new_tokens=n_new, stop=()))
        return time.perf_counter() - begun

    first = seconds(many)
    step = (min(seconds(many) for _ in range(REPEATS)) - min(seconds(few) for _ in range(REPEATS))) / (many - few)
    n_slots = sizes["prompt"] + bucket(many)
    cache = 2 * 2 * int(np.prod(policy.decoder.cache_shape(len(prompts), n_slots)))
    weights = sum(array.nbytes for array in policy.arrays().values())
    return {"first_call_seconds": first, "seconds_per_step": step, "bytes": weights + cache}


def train(policy: bridge.Policy, sizes: dict[str, Any]) -> dict[str, float]:
    """Seconds of a training step, and its operations."""
    a = policy.architecture
    tokens = jnp.asarray(np.random.default_rng(1).integers(3, a.vocabulary, (sizes["rows"], sizes["row"])))
    mask = jnp.ones(tokens.shape, bool)
    optimizer = nnx.Optimizer(policy, optax.adam(1e-5), wrt=nnx.Param)

    @nnx.jit(donate_argnums=(0, 1))
    def step(policy: bridge.Policy, optimizer: nnx.Optimizer, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        loss, gradient = nnx.value_and_grad(lambda p: -p.log_probs(tokens, mask).mean())(policy)
        optimizer.update(policy, gradient)
        return loss

    begun = time.perf_counter()
    jax.block_until_ready(step(policy, optimizer, tokens, mask))
    first = time.perf_counter() - begun

    def run(n_steps: int) -> None:
        losses = [step(policy, optimizer, tokens, mask) for _ in range(n_steps)]
        jax.block_until_ready(losses)

    attention = 6 * a.n_layers * a.n_heads * a.head_width * sizes["row"]
    seconds = min(seconds_per_step(run) for _ in range(REPEATS))
    return {
        "first_call_seconds": first,
        "seconds_per_step": seconds,
        "operations": tokens.size * (6 * count(a) + attention),
    }


def measure(config: dict[str, Any], sizes: dict[str, Any], bandwidth: float, rate: float) -> dict[str, Any]:
    """One model; its memory is the device's peak so far, so the smaller model comes first."""
    policy = bridge.init(config, jax.random.key(0), dtype="bfloat16")
    decoding = decode(policy, sizes)
    decoding |= {
        "tokens_per_second": sizes["prompts"] / decoding["seconds_per_step"],
        "share_of_copy": decoding["bytes"] / decoding["seconds_per_step"] / bandwidth,
        "peak_bytes": peak_bytes(),
    }
    training = train(policy, sizes)
    training |= {
        "tokens_per_second": sizes["rows"] * sizes["row"] / training["seconds_per_step"],
        "utilisation": training["operations"] / training["seconds_per_step"] / rate,
        "peak_bytes": peak_bytes(),
    }
    return {"parameters": count(policy.architecture), "decoding": decoding, "training": training}


def peak_bytes() -> int | None:
    """The most memory of the device that was in use so far; None where it does not say."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def report(results: dict[str, Any]) -> None:
    """A row for each model and job."""
    rows = []
    for name, found in results.items():
        for job, share in (("decoding", "share_of_copy"), ("training", "utilisation")):
            r = found[job]
            memory = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / GB:.1f}"
            rates = f"{r['tokens_per_second']:.0f}", f"{r[share]:.0%}"
            rows.append((name, job, *rates, memory, f"{r['first_call_seconds']:.0f}"))
    print_table(("model", "job", "tokens/s", "of copy, or of matmul", "peak GB", "first call s"), rows)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a small model, on any device")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which nothing new is begun")
    arguments = parser.parse_args()
    platform = jax.devices()[0].platform
    if platform != "gpu" and not arguments.small:
        parser.error(f"expected a GPU, got {platform}: try --small")
    until = time.perf_counter() + arguments.budget
    models, sizes = (SMALL, SMALL_SIZES) if arguments.small else (MODELS, SIZES)
    bandwidth = copy_bandwidth(SMALL_COPY_BYTES if arguments.small else COPY_BYTES)
    rate = operations_per_second(sizes["matrix"])
    print(f"copy: {bandwidth / GB:.0f} GB/s, bfloat16 product: {rate / 1e12:.2f} TFLOP/s\n")
    results = {}
    for name, config in models.items():
        if time.perf_counter() < until:
            results[name] = measure(config, sizes, bandwidth, rate)
    report(results)
    store(
        f"gpu_policies_small_{platform}" if arguments.small else "gpu_policies",
        {
            "environment": environment(),
            "copy_gigabytes_per_second": bandwidth / GB,
            "matmul_teraflops": rate / 1e12,
            "results": results,
            "left_out": [name for name in models if name not in results],
        },
    )


if __name__ == "__main__":
    main()
