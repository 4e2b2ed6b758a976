"""The truth test: transformer policies on preference games whose duality gap is known exactly.

    python -m benchmarks.truth.run [--mode sampled|exact|noise] [--only cycle/0 rand8/0] [--methods mpo ...]
    python -m benchmarks.truth.run --grid          everything, in an order that leaves whole tables behind
    python -m benchmarks.truth.run --page          docs/benchmarks/preference-optimization.md and its figures

Decoders of two layers, 21,000 weights, drawn far from uniform, are trained by MPO and by every baseline of the package,
500 rounds of 64 responses a prompt (32,000 samples), or with exact expectations. All seeds of a setting are one
program. Gaps are duality gaps of the last iterate, of what the method exports, of one moving average of the weights for
all methods, and of the mean of the weights since the middle of the run; every 10 rounds, by prompt.

Every method has at most four settings (`benchmarks.truth.settings`). They are compared on `cycle/0` and `rand8/0`; the
best on both, by median gap of the better of what it exports and its moving average, is frozen for the other games
(`benchmarks.truth.games`). `noise` is what was tried to get below the floor of the sampled mode.

Results: benchmarks/results/truth.json, written after each setting; what is there is not run again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import llm_bridge as bridge
from benchmarks import report
from benchmarks.truth import games as truth_games
from benchmarks.truth import page as truth_page
from benchmarks.truth.arena import Table, TableArena, table
from benchmarks.truth.decoder import PrefixTable, reading
from benchmarks.truth.games import ResponseGame
from benchmarks.truth.methods import with_room
from benchmarks.truth.settings import AGAINST_NOISE, COMPARED, FROZEN, METHODS, TUNING, Stages
from llm_bridge.model.weights import random_weights
from llm_bridge.train.arena import Source
from llm_bridge.train.loop import Method
from llm_bridge.train.train_state import TrainState

ROUNDS, EVERY, RATE = 500, 10, 0.025
KINDS = ("last", "exported", "average", "tail")
NAMES = ("truth", "styles")
DRAWN = ("last", "average")  # kinds whose course is stored


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
    stages: Stages, game: ResponseGame, seeds: Sequence[int], *, exact: bool = False
) -> Float[np.ndarray, "seeds marks kinds N"]:
    """Gaps of the weights named by `KINDS`, at the start and every 10 rounds."""
    total, behind, arrays = sum(rounds for _, rounds in stages), 0, table(game)
    decoder = reading(template(game.vocabulary).decoder, len(game.preferences), game.vocabulary - game.ends)
    first = stages[0][0]
    begun = [_begun(first, game, seed) for seed in seeds]
    flat, structures = zip(*(jax.tree.flatten((one, one.weights, one.weights)) for one in begun), strict=True)
    leaves = [jnp.stack(parts) for parts in zip(*flat, strict=True)]
    found = []
    for method, rounds in stages:
        shape = (Shape(game), decoder, exact, rounds // EVERY, structures[0])
        leaves, gaps = _run(shape, replace(method, decay_rounds=total), leaves, arrays, jnp.float32(total / 2))
        found.append(np.asarray(gaps)[:, behind > 0 :])
        behind += rounds
    return np.concatenate(found, axis=1)


def _begun(method: Method, game: ResponseGame, seed: int) -> TrainState:
    state = method.init(policy_of(game, seed), jax.random.key(1000 + seed))
    groups = (len(game.preferences), method.group_size)
    return with_room(method, state, groups, 1 + game.responses.shape[1])


class Shape:
    """A game as a static argument: games of one family share a program."""

    def __init__(self, game: ResponseGame):
        self.game = game
        self._key = (game.vocabulary, game.responses.tobytes(), len(game.preferences), game.ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


Carry = tuple[TrainState, dict[str, Array], dict[str, Array]]  # with both averages


@partial(jax.jit, static_argnames="shape", compiler_options={"xla_backend_optimization_level": 1})
def _run(
    shape: tuple[Shape, PrefixTable, bool, int, Any], method: Method, seeds: list[Array], arrays: Table, middle: Array
) -> tuple[list[Array], Array]:
    game, decoder, exact, n_marks, structure = shape
    arena = TableArena(game.game, arrays, exact=exact, spread=method.spreads)

    def read(state: TrainState, decoder: Any) -> TrainState:
        return replace(state, frame=replace(state.frame, decoder=decoder))

    def gaps(carry: Carry) -> Array:
        state, average, tail = carry
        kinds = jax.tree.map(lambda *each: jnp.stack(each), state.weights, method.exported(state), average, tail)
        return jax.lax.map(lambda weights: arena.gap(Source(decoder, state.whole(weights))), kinds)

    def one_round(_: Any, carry: Carry) -> Carry:
        state, average, tail = carry
        state = method.play(state, arena)[0]
        since = jnp.maximum(state.round.astype(jnp.float32) - middle, 1)
        return state, _drawn(average, state.weights, jnp.float32(RATE)), _drawn(tail, state.weights, 1 / since)

    def mark(carry: Carry, number: Array) -> tuple[Carry, Array]:
        n_rounds = jnp.where(number == 0, 0, EVERY).astype(jnp.int32)
        carry = jax.lax.fori_loop(jnp.int32(0), n_rounds, one_round, carry)
        return carry, gaps(carry)

    def one_seed(leaves: list[Array]) -> tuple[list[Array], Array]:
        carry = jax.tree.unflatten(structure, leaves)
        given = carry[0].frame.decoder
        carry = (read(carry[0], decoder), *carry[1:])
        carry, found = jax.lax.scan(mark, carry, jnp.arange(n_marks + 1, dtype=jnp.int32))
        return jax.tree.leaves((read(carry[0], given), *carry[1:])), found

    return jax.vmap(one_seed)(seeds)


def _drawn(mean: dict[str, Array], new: dict[str, Array], rate: Array) -> dict[str, Array]:
    return jax.tree.map(lambda old, one: old + rate * (one - old), mean, new)


def summary(found: Float[np.ndarray, "seeds marks kinds N"]) -> dict[str, Any]:
    """Mean over prompts: the median course of what is drawn, and the end by seed; by prompt at the end."""
    gaps = found.mean(axis=-1)
    return {
        kind: {
            **({"course": _short(np.median(gaps[:, :, k], axis=0))} if kind in DRAWN else {}),
            "end": _short(gaps[:, -1, k]),
            "median": _short(np.median(gaps[:, -1, k])),
            "by_prompt": _short(np.median(found[:, -1, k], axis=0)),
        }
        for k, kind in enumerate(KINDS)
    }


def _short(numbers: Any) -> Any:
    """Four digits."""
    return np.vectorize(lambda number: float(f"{number:.4g}"))(numbers)


def described(method: Method) -> dict[str, Any]:
    """A setting in words and numbers."""
    shown = ("eta", "alpha", "epochs", "learning_rate", "magnet", "estimator", "group_size", "share", "rounds")
    values = {name: getattr(method, name) for name in shown if hasattr(method, name)}
    values |= {
        name: rounds for name in ("replay", "warmup_rounds", "spread_draws") if (rounds := getattr(method, name, 0))
    }
    return {name: value if isinstance(value, int | float) else repr(value) for name, value in values.items()}


class Store:
    """The results so far; a setting that is there is not run again."""

    def __init__(self) -> None:
        path = report.RESULTS / "truth.json"
        self.results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}

    def measure(self, where: tuple[str, str, str], stages: Stages, seeds: int) -> dict[str, Any]:
        """The entry of a mode, game and name with its setting, measured if it is not there."""
        setting = json.dumps([described(method) | {"for": rounds} for method, rounds in stages], sort_keys=True)
        key = " | ".join((*where, setting, f"{seeds} seeds"))
        if key not in self.results:
            mode, game, name = where
            began = time.perf_counter()
            played = truth_games.named(game)
            found = course(stages, played, range(seeds), exact=mode == "exact")
            entry = {"mode": mode, "game": game, "name": name, "setting": json.loads(setting)}
            entry["supports"] = truth_games.supports(played)
            self.results[key] = entry | summary(found) | {"seconds": round(time.perf_counter() - began, 1)}
            report.store("truth", {"environment": report.environment(), "results": self.results})
        return self.results[key]

    def best(self, name: str, methods: Sequence[Method], seeds: int) -> Method:
        """The setting with the least geometric mean over the tuning games of the better median."""

        def score(method: Method) -> float:
            found = [self.measure(("sampled", game, name), ((method, ROUNDS),), seeds) for game in TUNING]
            return float(np.prod([truth_page.judged(one) for one in found]))

        return min(methods, key=score)


def stages_of(mode: str) -> dict[str, list[Stages]]:
    """What a mode runs, by name."""
    if mode == "noise":
        return {name: [stages] for name, stages in AGAINST_NOISE.items()}
    return {name: [((method, ROUNDS),) for method in methods] for name, methods in METHODS[mode].items()}


def grid(store: Store, seeds: int) -> None:
    """Settings on the tuning games and the best of each on the others; methods that are compared come first."""
    first, rest = COMPARED, [name for name in METHODS["sampled"] if name not in COMPARED]
    for names, games in ((first, FROZEN[:-1]), (rest, FROZEN[:-1]), ((*first, *rest), FROZEN[-1:])):
        for game, name in product(games, names):
            method = store.best(name, METHODS["sampled"][name], seeds)
            store.measure(("sampled", game, name), ((method, ROUNDS),), seeds)
    for mode in ("noise", "exact"):
        for name, settings in stages_of(mode).items():
            for stages, game in product(settings, TUNING):
                store.measure((mode, game, name), stages, seeds)


def main() -> None:
    """Measure what is asked for and not there yet, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("sampled", "exact", "noise"), default="sampled")
    parser.add_argument("--only", nargs="+", default=list(TUNING), choices=truth_games.names(), metavar="GAME")
    parser.add_argument("--methods", nargs="+", help="names; all by default")
    parser.add_argument("--settings", type=int, default=4, help="how many of each method, the first ones")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--grid", action="store_true", help="everything")
    parser.add_argument("--page", action="store_true", help="only write the page from what is stored")
    arguments = parser.parse_args()
    if arguments.page:
        return truth_page.write(*(json.loads((report.RESULTS / f"{name}.json").read_text()) for name in NAMES))
    store, rows = Store(), []
    if arguments.grid:
        return grid(store, arguments.seeds)
    header = ("game", "method", "setting", *KINDS, "s")
    for name, settings in stages_of(arguments.mode).items():
        for game in arguments.only if arguments.methods is None or name in arguments.methods else ():
            for stages in settings[: arguments.settings]:
                one = store.measure((arguments.mode, game, name), stages, arguments.seeds)
                ends = [np.array(one[kind]["end"], float) for kind in KINDS]
                cells = [f"{np.median(end):.2g} [{end.min():.1g}, {end.max():.1g}]" for end in ends]
                words = ", ".join(f"{k} {v}" for k, v in one["setting"][0].items() if k in ("eta", "alpha"))
                rows.append([game, name, words, *cells, f"{one['seconds']:.0f}"])
                report.print_table(header, rows[-1:])
    report.print_table(header, rows)


if __name__ == "__main__":
    main()
