"""How likely plays are: what algorithms need whose values are conditional on reaching an infoset, or on a history.

With B[s0, s1] the probability that chance leaves to the plays whose last own sequences are s0 and s1 (the payoff matrix
of the same game if every play paid 1), the opponent and chance reach infoset j of the row player with probability

    w_j  =  sum of (B y)_s over the sequences s at and below any one action of j that a policy weighs with 1 in total

which is one bottom-up sweep, as for counterfactual values: q_ja / w_j is then the expected payoff *given* that j is
reached and a taken. B comes with the game (`Description.plays`) and has about as many entries as the payoffs; a pair of
products with it is counted as one gradient evaluation.
"""

from jaxtyping import Array, Float

from mmd.game.game import Game, GameError, Pair
from mmd.game.payoff import Dense, Sparse
from mmd.game.treeplex import Treeplex


def probabilities(game: Game, algorithm: str) -> Dense | Sparse:
    """B, on the host.

    Args:
        game: the game.
        algorithm: the name of who asks, for the message.

    Raises:
        GameError: the game was made from payoffs alone.
    """
    if game.description.plays is None:
        raise GameError(
            f"{algorithm} needs the probability of every play, and {game.name} was made from payoffs alone: "
            "try a built-in game, a file or a matrix, or give its Description plays"
        )
    return Game.from_entries(game.players, game.description.plays(), game.description).payoff


def products(plays: Dense | Sparse, vectors: Pair) -> Pair:
    """(B y, B^T x) of a pair (x, y): what each sequence collects if the opponent's sequences hold these numbers."""
    return plays.times(vectors[1]), plays.transposed_times(vectors[0])


def reach(player: Treeplex, collected: Float[Array, " S"]) -> Float[Array, " I"]:
    """[I] w: probability that chance and the opponent reach each infoset, from B y or B^T x of the opponent's plan."""

    def rule(q: Array) -> tuple[Array, Array]:
        return q[:, 0], q[:, 0]  # whichever action is taken, the play goes on with certainty; the first always exists

    return player.bottom_up(collected, rule)[1]
