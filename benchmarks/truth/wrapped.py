"""The game of three styles (`benchmarks.truth.styles`) on modules that this package's decoder is not, by `bridge.wrap`.

    python -m benchmarks.truth.wrapped [--rounds 250] [--only linen]

The same SFT, then MPO with the same settings: of a Linen transformer in twenty lines, whose generation computes every
earlier token again, and of a module of NNX with a cache of its own. Beside them stands what `styles.json` has of the
package's Llama. Measured: frequencies of the styles on held-out prompts, and the duality gap in the game of styles.

Results: benchmarks/results/wrapped.json.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import llm_bridge as bridge
from benchmarks import report
from benchmarks.truth import styles
from llm_bridge.train.baselines.sft import SFT

LONGEST = 64


class Twenty(nn.Module):
    """A Linen transformer in twenty lines, which takes tokens, positions and a mask."""

    vocabulary: int
    width: int = 32
    n_layers: int = 2
    n_heads: int = 2

    @nn.compact
    def __call__(self, tokens: Any, positions: Any, mask: Any) -> Any:
        """Logits [B, T, V]."""
        x = nn.Embed(self.vocabulary, self.width)(tokens) + nn.Embed(LONGEST, self.width)(positions)
        allowed = seen(positions, mask)[:, None]
        for _ in range(self.n_layers):
            # pyrefly: ignore[unsupported-operation]
            x = x + nn.MultiHeadDotProductAttention(self.n_heads)(nn.LayerNorm()(x), mask=allowed)
            x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))


class Cached(nnx.Module):
    """The same of NNX, `module(tokens, positions, cache, allowed)`, which gives logits and a cache."""

    def __init__(self, vocabulary: int, rngs: nnx.Rngs, width: int = 32, n_layers: int = 2):
        self.width = width
        self.embed, self.places = nnx.Embed(vocabulary, width, rngs=rngs), nnx.Embed(LONGEST, width, rngs=rngs)
        sizes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 2 * width), "down": (2 * width, width)}
        self.layers = nnx.List(
            [
                nnx.Dict(
                    {name: nnx.Linear(*size, rngs=rngs) for name, size in sizes.items()}
                    | {f"norm_{name}": nnx.RMSNorm(width, rngs=rngs) for name in ("attention", "mlp")}
                )
                for _ in range(n_layers)
            ]
        )
        self.norm, self.head = nnx.RMSNorm(width, rngs=rngs), nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, tokens: Any, positions: Any, cache: Any, allowed: Any) -> tuple[Any, Any]:
        """Logits [B, T, V], and keys and values of each layer with the slot that comes next."""
        x, kept = self.embed(tokens) + self.places(positions), []
        for i, layer in enumerate(self.layers):
            query, key, value = jnp.split(layer["qkv"](layer["norm_attention"](x)), 3, axis=-1)
            if cache is not None:
                at = cache[i][2]
                key, value = (
                    jax.lax.dynamic_update_slice_in_dim(old, new, at, 1)
                    for old, new in zip(cache[i], (key, value), strict=False)
                )
                kept.append((key, value, at + tokens.shape[1]))
            scores = jnp.where(allowed, query @ jnp.swapaxes(key, 1, 2) / self.width**0.5, -1e9)
            x = x + layer["out"](jax.nn.softmax(scores) @ value)
            x = x + layer["down"](nnx.gelu(layer["up"](layer["norm_mlp"](x))))
        return self.head(self.norm(x)), kept


def seen(positions: Any, mask: Any) -> Any:
    """Which tokens a token may see, [B, T, T]."""
    return mask[:, None, :] & (positions[:, None, :] <= positions[:, :, None])


def _prefill(module: Cached, tokens: Any, positions: Any, mask: Any, n_slots: int) -> Any:
    empty = jnp.zeros((len(tokens), n_slots, module.width))
    cache = [(empty, empty, jnp.int32(0)) for _ in module.layers]
    return module(
        tokens, positions, cache, jnp.pad(seen(positions, mask), ((0, 0), (0, 0), (0, n_slots - tokens.shape[1])))
    )


CALLS = bridge.Calls(
    logits=lambda module, tokens, positions, mask: module(tokens, positions, None, seen(positions, mask))[0],
    prefill=_prefill,
    step=lambda module, tokens, positions, mask, cache, slot: module(tokens, positions, cache, mask[:, None, :]),
)


def untrained(kind: str, folder: Path) -> bridge.Policy:
    """A policy of either module, with the tokenizer of the game."""
    words = styles.write_tokenizer(folder)
    known: dict[str, Any] = {"max_length": LONGEST, "tokenizer": folder, "pad_token": words["<pad>"]}
    if kind == "nnx":
        return bridge.wrap(Cached(len(words), nnx.Rngs(0)), calls=CALLS, **known)
    module, tokens = Twenty(len(words)), jnp.zeros((1, 2), jnp.int32)
    return bridge.wrap(module, module.init(jax.random.key(0), tokens, tokens, tokens == 0), **known)


def course(kind: str, rounds: int) -> dict[str, Any]:
    """Teach and train one module."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        policy, asked = untrained(kind, Path(folder)), styles.prompts()
        sft = SFT(prompts_per_round=32, learning_rate=3e-3, eps=1e-8, watch_start=False)
        policy = sft.fit(policy, styles.demonstrations(asked[0], 8192), steps=600, key=jax.random.key(1)).policy
        start = styles.frequencies(policy, asked[1], jax.random.key(4))
        print(kind, "taught", start.round(3), f"{time.process_time() - began:.0f} s", flush=True)
        found = styles.course(styles.methods(rounds)["mpo"], policy, asked, rounds)
    seconds = round(time.process_time() - began)
    return {
        "module": str(policy).partition(", from ")[0],
        "start": start,
        "gaps": [styles.gap(f) for f in found["exported"]],
    } | {
        "round": found["round"],
        "exported": found["exported"],
        "cpu_seconds": seconds,
    }


def main() -> None:
    """Both modules; what is stored of the other one stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=250)
    parser.add_argument("--only", choices=("linen", "nnx"))
    options = parser.parse_args()
    path = report.RESULTS / "wrapped.json"
    results = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
    rows = []
    for kind in ("linen", "nnx") if options.only is None else (options.only,):
        results[kind] = course(kind, options.rounds)
        report.store("wrapped", {"environment": report.environment(), "rounds": options.rounds, "results": results})
    for kind, found in results.items():
        rows.append([kind, *(f"{share:.3f}" for share in found["exported"][-1]), f"{found['gaps'][-1]:.3f}"])
    stored = json.loads((report.RESULTS / "styles.json").read_text("utf-8"))["results"]["mpo"]["exported"][-1]
    rows.append(["ours (styles.json)", *(f"{share:.3f}" for share in stored), f"{styles.gap(np.array(stored)):.3f}"])
    report.print_table(("module", *styles.STYLES, "none", "gap"), rows)


if __name__ == "__main__":
    main()
