"""The truth test: transformer policies on preference games whose duality gap is known exactly.

    python -m benchmarks.truth [--only cycle/0 rand8/0] [--methods mpo ...] [--mode exact|sampled] [--seeds 5]

Decoders of two layers, 25,000 weights, drawn far from uniform, are trained by MPO and by every baseline of the package,
500 rounds of 64 responses a prompt (32,000 samples), or with exact expectations. All seeds of a setting are one
program. Gaps are duality gaps of the last iterate, of what the method exports, and of one weight average for all
methods, every 10 rounds, by prompt.

Every method has at most four settings. They are compared on `cycle/0` and `rand8/0`, and the best on both, by median
gap of the better of its last iterate and its average, is frozen for the other games (`benchmarks.truth_games`).

Results: benchmarks/results/truth.json, written after each setting; what is there is not run again.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import llm_bridge as bridge
import mmd
from benchmarks import report, truth_games
from benchmarks.truth_arena import Table, TableArena, table
from benchmarks.truth_games import ResponseGame
from llm_bridge.arena import Source
from llm_bridge.loop import Method
from llm_bridge.objective import Enumerated, Regression
from llm_bridge.train_state import TrainState
from llm_bridge.weights import random_weights

ROUNDS, EVERY, RATE = 500, 10, 0.025
TUNING = ("cycle/0", "rand8/0")
SAMPLED: dict[str, Any] = {"group_size": 64, "epochs": 4, "learning_rate": 2e-3, "eps": 1e-3, "watch_start": False}
EXACT: dict[str, Any] = {"epochs": 8, "learning_rate": 3e-3, "eps": 1e-8, "watch_start": False}
MPO = bridge.MPO
SETTINGS: dict[str, dict[str, list[Method]]] = {
    "exact": {
        "mpo gradient": [
            MPO(estimator=Enumerated(), eta=eta, alpha=0.1, magnet=mmd.Refresh(every=10), **EXACT) for eta in (1.6, 3.2)
        ],
        "mpo regression": [
            MPO(estimator=Regression(), eta=eta, alpha=0.1, magnet=mmd.Refresh(every=10), **EXACT) for eta in (1.6, 3.2)
        ],
    },
    "sampled": {
        "mpo": [
            MPO(eta=0.4, alpha=0.1, magnet=mmd.MovingAverage(rate=0.025), **SAMPLED),
            MPO(eta=0.4, alpha=0.1, magnet=mmd.Refresh(every=40), **SAMPLED),
            MPO(eta=0.8, alpha=0.1, magnet=mmd.MovingAverage(rate=0.05), **SAMPLED),
            MPO(eta=0.2, alpha=0.1, magnet=mmd.MovingAverage(rate=0.02), **SAMPLED),
        ],
        "mpo regression": [
            MPO(eta=0.4, alpha=0.1, magnet=mmd.MovingAverage(rate=0.025), estimator=Regression(), **SAMPLED),
            MPO(eta=0.4, alpha=0.1, magnet=mmd.Refresh(every=40), estimator=Regression(), **SAMPLED),
        ],
    },
}


@cache
def template(vocabulary: int) -> bridge.Policy:
    """A decoder with logits of standard deviation 1.7."""
    config = {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "initializer_range": 0.3,
    }
    return bridge.init(config, jax.random.key(0))


def policy_of(game: ResponseGame, seed: int) -> bridge.Policy:
    """The decoder with weights of its own."""
    policy = template(game.vocabulary)
    drawn = random_weights(policy.architecture, jax.random.key(seed), np.dtype("float32"))
    return bridge.Policy(policy.decoder, drawn, policy.origin)


def course(
    method: Method, game: ResponseGame, seeds: range, *, exact: bool, rounds: int = ROUNDS
) -> Float[np.ndarray, "seeds marks kinds N"]:
    """Gaps of the last iterate, the exported weights and the weight average, at the start and every 10 rounds."""
    method = replace(method, decay_rounds=rounds)
    states = [method.init(policy_of(game, seed), jax.random.key(1000 + seed)) for seed in seeds]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *states)
    shape = (Shape(game), exact, rounds // EVERY)
    return np.asarray(_run(shape, method, stacked, table(game)))


class Shape:
    """A game as a static argument: games of one family share a program."""

    def __init__(self, game: ResponseGame):
        self.game = game
        self._key = (game.vocabulary, game.responses.tobytes(), len(game.preferences), game.ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@partial(jax.jit, static_argnames="shape")
def _run(shape: tuple[Shape, bool, int], method: Method, states: TrainState, arrays: Table) -> Array:
    game, exact, n_marks = shape
    arena = TableArena(game.game, arrays, exact=exact)

    def gaps(state: TrainState, average: dict[str, Array]) -> Array:
        weights = (state.weights, method.exported(state), average)
        return jnp.stack([arena.gap(Source(state.frame.decoder, state.whole(each))) for each in weights])

    def one_round(_: Any, carry: tuple[TrainState, dict[str, Array]]) -> tuple[TrainState, dict[str, Array]]:
        state, average = carry
        state, _ = method.play(state, arena)
        return state, jax.tree.map(lambda mean, new: mean + RATE * (new - mean), average, state.weights)

    def mark(carry: tuple[TrainState, dict[str, Array]], _: None) -> tuple[tuple, Array]:
        state, average = jax.lax.fori_loop(jnp.int32(0), jnp.int32(EVERY), one_round, carry)
        return (state, average), gaps(state, average)

    def one_seed(state: TrainState) -> Array:
        start = gaps(state, state.weights)
        _, found = jax.lax.scan(mark, (state, state.weights), None, length=n_marks)
        return jnp.concatenate([start[None], found])

    return jax.vmap(one_seed)(states)


def summary(found: Float[np.ndarray, "seeds marks kinds N"]) -> dict[str, Any]:
    """Mean over prompts: the median course, and the end by seed; by prompt at the end."""
    kinds = ("last", "exported", "average")
    gaps = found.mean(axis=-1)
    return {
        kind: {
            "course": np.median(gaps[:, :, k], axis=0),
            "end": gaps[:, -1, k],
            "median": np.median(gaps[:, -1, k]),
            "by_prompt": np.median(found[:, -1, k], axis=0),
        }
        for k, kind in enumerate(kinds)
    }


def described(method: Method) -> dict[str, Any]:
    """A setting in words and numbers."""
    shown = ("eta", "alpha", "epochs", "learning_rate", "b1", "eps", "magnet", "estimator", "group_size")
    values = {name: getattr(method, name) for name in shown if hasattr(method, name)}
    return {name: value if isinstance(value, int | float) else repr(value) for name, value in values.items()}


class Store:
    """The results so far; a setting that is there is not run again."""

    def __init__(self) -> None:
        path = report.RESULTS / "truth.json"
        self.results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}

    def measure(self, where: tuple[str, str, str], method: Method, seeds: int) -> dict[str, Any]:
        """The entry of a mode, game and name with its setting, measured if it is not there."""
        key = " | ".join((*where, json.dumps(described(method), sort_keys=True), f"{seeds} seeds"))
        if key not in self.results:
            mode, game, _ = where
            began = time.perf_counter()
            found = course(method, truth_games.named(game), range(seeds), exact=mode == "exact")
            self.results[key] = summary(found) | {"seconds": time.perf_counter() - began}
            report.store("truth", {"environment": report.environment(), "results": self.results})
        return self.results[key]


def main() -> None:
    """Measure what is asked for and not there yet, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=tuple(SETTINGS), default="sampled")
    parser.add_argument("--only", nargs="+", default=list(TUNING), choices=truth_games.names(), metavar="GAME")
    parser.add_argument("--methods", nargs="+", help="names; all by default")
    parser.add_argument("--settings", type=int, default=4, help="how many of each method, the first ones")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    store, rows = Store(), []
    for name, methods in SETTINGS[arguments.mode].items():
        for game in arguments.only if arguments.methods is None or name in arguments.methods else ():
            for method in methods[: arguments.settings]:
                one = store.measure((arguments.mode, game, name), method, arguments.seeds)
                ends = [np.array(one[kind]["end"], float) for kind in ("last", "exported", "average")]
                cells = [f"{np.median(end):.2g} [{end.min():.1g}, {end.max():.1g}]" for end in ends]
                rows.append([game, name, f"eta {method.eta}, alpha {method.alpha}", *cells, f"{one['seconds']:.0f}"])
                report.print_table(("game", "method", "setting", "last", "exported", "average", "s"), rows[-1:])
    report.print_table(("game", "method", "setting", "last", "exported", "average", "s"), rows)


if __name__ == "__main__":
    main()
