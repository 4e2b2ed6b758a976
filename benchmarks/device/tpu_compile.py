"""The iteration on a mesh, compiled for a slice of TPUs that need not be there.

    python -m benchmarks.device.tpu_compile [--topology v5e:4x4] [--games leduc_poker liars_dice:faces=5]

XLA compiles for a described topology, in an environment with `jax[tpu]` and no TPU. What it reports shows that the
sharded iteration is a TPU program in float32, what every chip holds, and what moves between chips. Nothing is timed
but compilation. Results: benchmarks/results/tpu_compile.json.
"""

import argparse
import math
import os
import re
import time
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding

import games
from benchmarks.report import environment, print_table, store
from mmd import algorithms
from mmd.algorithms.contract import Algorithm
from mmd.game.game import Game
from mmd.game.sharding import ROWS, WHOLE, divided, padded_shape, settled

ALGORITHMS = ("mmd", "restarted")
MOVES = re.compile(r" = (.*) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
SHAPES = re.compile(r"\w\d+\[([\d,]*)\]")


def described(array: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """What `mmd.game.sharding.put` would bring to the devices, in float32."""
    array = np.asarray(array)
    dtype = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32
    return jax.ShapeDtypeStruct(padded_shape(array, sharding), dtype, sharding=sharding)


def advance(algorithm: Algorithm, game: Game, start: Any, n_steps: Any) -> Any:
    """Start, and take steps in one loop."""
    state = settled(game, algorithm.init(game, start))
    return jax.lax.fori_loop(0, n_steps, lambda _, s: settled(game, algorithm.step(game, s)), state)


def compiled(game: Game, name: str, mesh: Mesh) -> dict[str, Any]:
    """One algorithm on one game."""
    whole = NamedSharding(mesh, WHOLE)
    on_mesh = divided(game, mesh, described)
    algorithm = algorithms.load(name)().resolve(game)
    start = tuple(player.uniform() for player in game.players)
    rest = jax.tree.map(lambda leaf: described(leaf, whole), (algorithm, start, 1))
    begun = time.perf_counter()
    program = jax.jit(advance).lower(rest[0], on_mesh, rest[1], rest[2]).compile()
    seconds = time.perf_counter() - begun
    moved: dict[str, list[int]] = {}
    for result, kind in MOVES.findall(program.as_text() or ""):
        sizes = [math.prod(int(n) for n in shape.split(",") if n) for shape in SHAPES.findall(result)]
        moved.setdefault(kind, []).append(max(sizes))
    payoffs = jax.tree.leaves(on_mesh.payoff)
    memory = program.memory_analysis()
    assert memory is not None, "this version of libtpu does not say how much memory a program takes"
    return {
        "game": game.name,
        "algorithm": name,
        "sequences": [player.n_sequences for player in game.players],
        "largest_payoff_array_entries": max(math.prod(a.shape) for a in payoffs),
        "payoff_bytes": sum(4 * math.prod(a.shape) for a in payoffs),
        "payoff_bytes_per_chip": sum(4 * math.prod(a.sharding.shard_shape(a.shape)) for a in payoffs),
        "argument_bytes_per_chip": memory.argument_size_in_bytes,
        "temporary_bytes_per_chip": memory.temp_size_in_bytes,
        "moves": {kind: {"count": len(sizes), "largest_entries": max(sizes)} for kind, sizes in moved.items()},
        "compile_seconds": seconds,
    }


def main() -> None:
    """Compile, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="v5e:4x4")
    parser.add_argument("--games", nargs="+", default=["leduc_poker", "liars_dice:faces=4", "liars_dice:faces=5"])
    arguments = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose metadata could be asked for
    topology = topologies.get_topology_desc(platform="tpu", topology_name=arguments.topology)
    mesh = Mesh(np.array(topology.devices), (ROWS,))
    results = []
    for spec in arguments.games:
        game = games.load(spec)
        results += [compiled(game, name, mesh) for name in ALGORITHMS]
        print(f"{game.name}: compiled for {mesh.size} chips", flush=True)
    print_table(
        ("game", "algorithm", "payoff bytes", "a chip", "largest array", "moves", "largest move", "compile s"),
        [
            (
                r["game"],
                r["algorithm"],
                f"{r['payoff_bytes']:,}",
                f"{r['payoff_bytes_per_chip']:,}",
                f"{r['largest_payoff_array_entries']:,}",
                ", ".join(f"{m['count']} {kind}" for kind, m in r["moves"].items()),
                f"{max(m['largest_entries'] for m in r['moves'].values()):,}",
                f"{r['compile_seconds']:.1f}",
            )
            for r in results
        ],
    )
    kind = topology.devices[0].device_kind
    store(
        "tpu_compile",
        {
            "environment": environment() | {"libtpu": version("libtpu")},
            "topology": arguments.topology,
            "chip": kind,
            "chips": mesh.size,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
