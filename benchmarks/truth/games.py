"""Preference games between short responses, small enough that all responses and the duality gap are known exactly.

Each prompt hides a class behind every response, a sum of token numbers modulo something, and the preference between two
responses is that between their classes. It is intransitive, so no reward explains it, and no response is better than
the others, so that equilibrium finding is all there is.

    cycle   one prompt, 64 responses of three tokens, a 3-cycle between three classes
    rand8   one prompt, the same responses, random preferences between eight classes
    mixed8  further games of the family rand8 whose equilibrium mixes at least three classes
    mix     four prompts, 85 responses of one to three tokens with the end, a 3-cycle and random games of 5, 9 and 7

The first game of each family is that of the tuning, `cycle/0` being P[b > a] = P[c > b] = 0.9, P[a > c] = 0.8. Others
are drawn until one passes a screen on the table: exact MPO on the classes ends below `SCREEN_GAP`, and no class of its
equilibrium falls below `SCREEN_MASS` on the way, where no sampler would see it again.
"""

from dataclasses import dataclass
from itertools import product

import jax
import numpy as np
from jaxtyping import Float, Int

import games
import mmd
from mmd.update import magnetic_step

SCREEN_GAP, SCREEN_MASS, SCREEN_ROUNDS = 1e-4, 1e-3, 500
FURTHER = 3


@dataclass(frozen=True)
class ResponseGame:
    """A game of the benchmark.

    Attributes:
        name: family and number.
        vocabulary: tokens; prompt x is the token x.
        responses: all of them, [Y, L], filled up with the end token.
        lengths: tokens of each, the end included.
        preferences: P(y preferred to y') for each prompt.
        ends: whether the last token of the vocabulary ends a response.
        rejected: draws that the screen refused before this one.
    """

    name: str
    vocabulary: int
    responses: Int[np.ndarray, "Y L"]
    lengths: Int[np.ndarray, " Y"]
    preferences: Float[np.ndarray, "N Y Y"]
    ends: bool
    rejected: int = 0


def named(name: str) -> ResponseGame:
    """The game `family/number`."""
    family, _, number = name.partition("/")
    return {"cycle": _cycle, "rand8": _rand8, "mixed8": _mixed8, "mix": _mix}[family](int(number))


def supports(game: ResponseGame) -> list[int]:
    """How many classes of responses each prompt's equilibrium has; with one, a response beats all others."""
    found = []
    for table in game.preferences:
        _, first = np.unique(table, axis=0, return_index=True)
        equilibrium = mmd.solve_exactly(games.preference.game(table[np.ix_(first, first)])).probabilities[0]
        found.append(int((equilibrium[-len(first) :] > 1e-6).sum()))
    return found


def names() -> list[str]:
    """All games, the tuned ones first of their family."""
    found = [f"{family}/{i}" for family in ("cycle", "rand8", "mix") for i in range(FURTHER + 1)]
    return [*found, *(f"mixed8/{i + 1}" for i in range(FURTHER))]


def _cycle(number: int) -> ResponseGame:
    tokens = np.array(list(product(range(4), repeat=3)))
    if number == 0:
        return _one("cycle/0", tokens, tokens.sum(axis=1) % 3, _three(0.9, 0.9, 0.8), 0)

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return tokens @ rng.integers(1, 3, 3) % 3, _three(*rng.uniform(0.6, 0.95, 3))

    return _one(f"cycle/{number}", tokens, *_screened(1, number, draw))


def _rand8(number: int) -> ResponseGame:
    tokens = np.array(list(product(range(4), repeat=3)))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return tokens @ rng.permutation([1, 2, 3]) % 8, _random(rng, 8)

    return _one(f"rand8/{number}", tokens, *_screened(2, number, draw))


def _mixed8(number: int) -> ResponseGame:
    tokens = np.array(list(product(range(4), repeat=3)))

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        classes, found = rng.permutation([1, 2, 3]), _random(rng, 8)
        while (found >= 0.5).all(axis=1).any():  # a class that loses to no other
            found = _random(rng, 8)
        return tokens @ classes % 8, found

    return _one(f"mixed8/{number}", tokens, *_screened(6, number, draw))


def _mix(number: int) -> ResponseGame:
    rows = [[4], *([a, 4] for a in range(4)), *([a, b, 4] for a, b in product(range(4), repeat=2))]
    rows += [list(row) for row in product(range(4), repeat=3)]
    lengths = np.array([len(row) for row in rows])
    responses = np.array([row + [4] * (3 - len(row)) for row in rows])
    sums = np.where(responses < 4, responses, 0).sum(axis=1)
    ones = (responses == 1).sum(axis=1) + 2 * (responses == 2).sum(axis=1)
    classes = [(sums + lengths) % 3, sums % 5, 3 * (sums % 3) + lengths - 1, (ones + 2 * lengths) % 7]

    def tables(seed: int, n: int) -> tuple[np.ndarray, int]:
        _, preference, rejected = _screened(seed, number, lambda rng: (classes[0], _random(rng, n)))
        return preference, rejected

    found = [(_three(0.9, 0.9, 0.8), 0), *(tables(3 + i, n) for i, n in enumerate((5, 9, 7)))]
    wide = [table[np.ix_(each, each)] for (table, _), each in zip(found, classes, strict=True)]
    return ResponseGame(
        f"mix/{number}", 5, responses, lengths, np.array(wide), True, sum(rejected for _, rejected in found)
    )


def _one(name: str, tokens: np.ndarray, classes: np.ndarray, table: np.ndarray, rejected: int) -> ResponseGame:
    wide = table[np.ix_(classes, classes)][None]
    return ResponseGame(name, 4, tokens, np.full(len(tokens), 3), wide, False, rejected)


def _three(b_over_a: float, c_over_b: float, a_over_c: float) -> Float[np.ndarray, "3 3"]:
    return np.array([[0.5, 1 - b_over_a, a_over_c], [b_over_a, 0.5, 1 - c_over_b], [1 - a_over_c, c_over_b, 0.5]])


def _random(rng: np.random.Generator, n: int) -> Float[np.ndarray, "n n"]:
    """Sigmoid(2 z), z normal and antisymmetric."""
    above = np.triu(rng.standard_normal((n, n)), 1)
    return 1 / (1 + np.exp(-2 * (above - above.T)))


def _screened(family: int, number: int, draw) -> tuple[np.ndarray, np.ndarray, int]:
    """The first of a sequence of draws that passes the screen, and how many did not."""
    rng = np.random.default_rng([20_261_121, family, number])
    for rejected in range(1000):
        classes, table = draw(rng)
        if passes(table):
            return classes, table, rejected
    raise RuntimeError(f"no draw of family {family} passes")


def passes(table: Float[np.ndarray, "n n"]) -> bool:
    """Whether exact MPO on the classes themselves gets there without losing one of the equilibrium's."""
    equilibrium = mmd.solve_exactly(games.preference.game(table)).probabilities[0][-len(table) :]
    needed = equilibrium > 1e-3
    step = jax.jit(magnetic_step)
    with jax.enable_x64(True):
        log_policy = log_magnet = np.full(len(table), -np.log(len(table)))
        for number in range(SCREEN_ROUNDS):
            payoff = table @ np.exp(log_policy) - 0.5
            log_policy = np.asarray(step(log_policy, log_magnet, payoff, 1.6, 0.1)[0])
            if np.exp(log_policy[needed]).min() < SCREEN_MASS:
                return False
            if number % 10 == 9:
                log_magnet = log_policy
    return bool(2 * (table @ np.exp(log_policy)).max() - 1 < SCREEN_GAP)
