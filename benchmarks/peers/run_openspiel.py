"""OpenSpiel's C++ CFR+ (Lanctot et al. 2019); one step updates both players in turn, average included.

python -m benchmarks.peers.run_openspiel GAME
"""

import sys
from collections.abc import Callable

import pyspiel

from benchmarks.peers.protocol import serve


def build() -> Callable[[int], None]:
    """CFR+ on the game, made turn-based."""
    solver = pyspiel.CFRPlusSolver(pyspiel.load_game_as_turn_based(sys.argv[1]))

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            solver.evaluate_and_update_policy()

    return run


if __name__ == "__main__":
    serve(build, "open_spiel")
