"""Time of an iteration on a GPU, and the share of its memory bandwidth that is used.

    python -m benchmarks.device.gpu [--small] [--budget 540]        (or: make bench-gpu)

An iteration has to read every payoff once in each direction, and to read and write the algorithm's state. These bytes,
divided by its time, are the achieved bandwidth, here as a share of that of a large array copied on the same device; the
gathered entries of the opponent's plan come on top and are not counted. All steps are inside one compiled loop.

Nothing new is begun after `--budget` seconds. `--small` takes small games, on any device. It needs the packages jax,
numpy, scipy, rich and jaxtyping. Results: benchmarks/results/gpu.json, or gpu_small_PLATFORM.json.
"""

import argparse
import gc
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import games
from benchmarks.report import environment, print_table, store
from benchmarks.timing import seconds_per_step
from mmd import algorithms
from mmd.algorithms.contract import Algorithm
from mmd.game.game import Game, GameError
from mmd.game.sharding import Placement

GAMES = ("leduc_poker", "liars_dice:faces=6", "liars_dice:faces=10")
INSTEAD = {"liars_dice:faces=10": "liars_dice:faces=9"}
SMALL = ("kuhn_poker", "leduc_poker", "liars_dice:faces=4")
ALGORITHMS = ("mmd", "restarted", "cfr+")
DTYPES = ("float64", "float32")
COPY_BYTES, SMALL_COPY_BYTES = 2**30, 2**26
REPEATS = 3
GB = 1e9


def copy_bandwidth(n_bytes: int) -> float:
    """Bytes a second, read and written, of a large array that is negated again and again on the device."""

    @jax.jit
    def negate(array: jax.Array, times: int) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, a: -a, array)

    array = jnp.ones(n_bytes // 4, jnp.float32)
    jax.block_until_ready(negate(array, 1))
    seconds = min(seconds_per_step(lambda n: jax.block_until_ready(negate(array, n))) for _ in range(REPEATS))
    return 2 * array.nbytes / seconds


def bytes_needed(game: Game, state: Any) -> int:
    """Bytes that an iteration cannot do without: payoffs for both directions, the state read and written."""
    payoffs = sum(array.nbytes for array in jax.tree.leaves(game.payoff))
    if len(jax.tree.leaves(game.payoff)) == 1:
        payoffs *= 2  # a dense matrix is read for A y and again for A^T x
    return payoffs + 2 * sum(array.nbytes for array in jax.tree.leaves(state))


def advance(algorithm: Algorithm, game: Game, state: Any, n_steps: int) -> Any:
    """Take steps in one loop on the device."""
    return jax.lax.fori_loop(0, n_steps, lambda _, s: algorithm.step(game, s), state)


def measure(game: Game, name: str, dtype: str, bandwidth: float) -> dict[str, Any]:
    """One algorithm on one game in one precision."""
    with jax.enable_x64(dtype == "float64"):
        place = Placement(np.dtype(dtype))
        algorithm, on_device = place.whole(algorithms.load(name)().resolve(game)), place.game(game)
        begun = time.perf_counter()
        state = jax.jit(lambda a, g, start: a.init(g, start))(
            algorithm, on_device, place.whole(tuple(player.uniform() for player in game.players))
        )
        program = jax.jit(advance).lower(algorithm, on_device, state, 1).compile()
        compile_seconds = time.perf_counter() - begun

        def run(n_steps: int) -> None:
            jax.block_until_ready(program(algorithm, on_device, state, n_steps))

        seconds = np.median([seconds_per_step(run) for _ in range(REPEATS)]).item()
        needed = bytes_needed(on_device, state)
    return {
        "game": game.name,
        "algorithm": name,
        "dtype": dtype,
        "microseconds": 1e6 * seconds,
        "bytes": needed,
        "gigabytes_per_second": needed / seconds / GB,
        "share_of_copy": needed / seconds / bandwidth,
        "compile_seconds": compile_seconds,
    }


def load_what_fits(spec: str) -> Game:
    """The game, or the smaller one named instead if the host or the device has too little memory."""
    try:
        game = games.load(spec)
        payoffs = sum(np.asarray(array).nbytes for array in jax.tree.leaves(game.payoff))
        there = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", np.inf)
        if 2 * payoffs > there:
            raise GameError(f"{spec} has {payoffs / GB:.1f} GB of payoffs, and the device has {there / GB:.1f} GB")
        return game
    except GameError as error:
        if spec not in INSTEAD:
            raise
        print(f"{error}\ninstead: {INSTEAD[spec]}")
    gc.collect()
    return games.load(INSTEAD[spec])


def measure_all(specs: tuple[str, ...], bandwidth: float, until: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Everything that can be begun in time, and the names of the rest."""
    results, left_out = [], []
    for spec in specs:
        begun = time.perf_counter()
        game = load_what_fits(spec) if begun < until else None
        built = time.perf_counter() - begun
        for dtype in DTYPES:
            for name in ALGORITHMS:
                if game is None or time.perf_counter() >= until:
                    left_out.append(f"{spec} {name} {dtype}")
                    continue
                results.append(measure(game, name, dtype, bandwidth) | {"build_seconds": built})
                print(f"{game.name} {name} {dtype}: {results[-1]['microseconds']:.1f} us", flush=True)
    return results, left_out


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small games, on any device")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which nothing new is begun")
    arguments = parser.parse_args()
    platform = jax.devices()[0].platform
    if platform != "gpu" and not arguments.small:
        parser.error(f"expected a GPU, got {platform}: try --small")
    until = time.perf_counter() + arguments.budget
    bandwidth = copy_bandwidth(SMALL_COPY_BYTES if arguments.small else COPY_BYTES)
    results, left_out = measure_all(SMALL if arguments.small else GAMES, bandwidth, until)
    print(f"\ncopy: {bandwidth / GB:.0f} GB/s\n")
    print_table(
        ("game", "algorithm", "dtype", "us an iteration", "GB/s", "share of copy", "compile s"),
        [
            (
                r["game"],
                r["algorithm"],
                r["dtype"],
                f"{r['microseconds']:.1f}",
                f"{r['gigabytes_per_second']:.1f}",
                f"{r['share_of_copy']:.0%}",
                f"{r['compile_seconds']:.1f}",
            )
            for r in results
        ],
    )
    store(
        f"gpu_small_{platform}" if arguments.small else "gpu",
        {
            "environment": environment(),
            "copy_gigabytes_per_second": bandwidth / GB,
            "results": results,
            "left_out": left_out,
        },
    )


if __name__ == "__main__":
    main()
