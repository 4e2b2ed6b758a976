"""LiteEFG's MMD and CFR+ (Liu, Farina, Ozdaglar 2024); one step updates both players, the average left out.

python -m benchmarks.peers.run_liteefg GAME mmd|cfr+

One environment a process: a second graph on the same one raises or crashes.
"""

import sys
from collections.abc import Callable

import LiteEFG
import pyspiel
from LiteEFG.baselines import MMD, CFRplus

from benchmarks.peers.protocol import serve

GRAPHS = {"mmd": MMD.graph, "cfr+": CFRplus.graph}


def build() -> Callable[[int], None]:
    """The algorithm's graph on the game, every node visited in each update."""
    graph = GRAPHS[sys.argv[2]]()
    environment = LiteEFG.OpenSpielEnv(pyspiel.load_game(sys.argv[1]), traverse_type="Enumerate", regenerate=False)
    environment.set_graph(graph)

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            graph.update_graph(environment)

    return run


if __name__ == "__main__":
    serve(build, "LiteEFG")
