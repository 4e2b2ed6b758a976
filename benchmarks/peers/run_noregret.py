"""noregret's CFR+ (Kim) with its SciPy kernel in float64; one step updates both players in turn, average included.

python -m benchmarks.peers.run_noregret GAME
"""

import sys
from collections.abc import Callable

import noregret

from benchmarks.peers.protocol import serve


def build() -> Callable[[int], None]:
    """CFR+ on the game's sequence form; the loop is that of `noregret.regret_minimization` with alternation."""
    kernel = noregret.FloatingPointKernel()
    game = noregret.to_extensive_form_game(kernel, noregret.OpenSpielGame(kernel, sys.argv[1]))
    polytopes = (game.row_sequence_form_polytope, game.column_sequence_form_polytope)
    players = [noregret.CounterfactualRegretMinimizationPlus(kernel, polytope) for polytope in polytopes]
    strategies = [player.output() for player in players]

    def run(n_steps: int) -> None:
        for _ in range(n_steps):
            for i, player in enumerate(players):
                player.observe(game.utility(i, strategies[1 - i]))
                strategies[i] = player.output()

    return run


if __name__ == "__main__":
    serve(build, "noregret")
