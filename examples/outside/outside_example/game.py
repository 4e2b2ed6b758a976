"""A game: one card, one bet, one bluff.

Both players pay 1. The row player draws a high or a low card, which it alone sees, and checks or bets. After a check
the card decides: high wins. After a bet the column player folds, or calls and pays the bet too.

The low card bluffs with probability bet / (2 + bet), a bet is called with probability 2 / (2 + bet), and the value is
bet / (2 + bet): what the bluff is worth.
"""

from dataclasses import dataclass

from games import rules

State = tuple[str, ...]  # what has happened so far: card, move, answer


@dataclass(frozen=True)
class Bluff:
    """The rules.

    Attributes:
        bet: what a bet adds to the 1 that each player has paid.
    """

    bet: float = 1.0

    @property
    def name(self) -> str:
        """As it is loaded."""
        return f"outside_game:bet={self.bet:g}"

    def initial(self) -> State:
        """Nothing has happened."""
        return ()

    def player(self, state: State) -> int:
        """Chance deals, the row player moves, the column player answers a bet."""
        if len(state) == 3 or state[1:] == ("check",):
            return rules.TERMINAL
        return (rules.CHANCE, 0, 1)[len(state)]

    def actions(self, state: State) -> tuple[str, ...]:
        """Of the player who moves."""
        return ("check", "bet") if len(state) == 1 else ("fold", "call")

    def chance(self, state: State) -> list[tuple[str, float]]:
        """The card."""
        return [("high", 0.5), ("low", 0.5)]

    def next(self, state: State, action: str) -> State:
        """One more thing has happened."""
        return (*state, action)

    def infoset(self, state: State) -> str:
        """The row player knows its card, the column player that there was a bet."""
        return state[0] if len(state) == 1 else "bet"

    def utility(self, state: State) -> tuple[float, float]:
        """Payoffs to both."""
        if state[-1] == "fold":
            won = 1.0
        else:
            stake = 1.0 + (self.bet if state[-1] == "call" else 0.0)
            won = stake if state[0] == "high" else -stake
        return won, -won
