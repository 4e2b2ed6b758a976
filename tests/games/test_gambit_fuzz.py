"""Whatever is in a Gambit file, reading it gives the game that was written or a GameError, within two seconds."""

import random
import re
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from games.compile import CHANCE, TERMINAL, InfosetInfo, Tree
from games.readers import gambit
from games.readers.files import GameFormatError
from mmd.game.game import Game, GameError

IN_TIME = settings(deadline=timedelta(seconds=2))
CORPUS = (
    'EFG 2 R "pennies" { "A" "B" } "comment" p "" 1 1 "" { "l" "r" } 0 p "" 2 1 "" { "L" "R" } 0 t "" 1 "" { 1, -1 }'
    ' t "" 2 "" { -1, 1 } p "" 2 1 0 t "" 2 t "" 1',
    'EFG 2 R "deal" { "A" "B" } c "" 1 "cards" { "h" 1/3 "l" 2/3 } 1 "ante" { .5 -.5 } p "" 1 1 "" { "x" "y" } 0'
    ' t "" 2 "" { 1e1 -10.0 } t "" 0 p "" 1 2 "" { "x" "y" } 2 t "" 0 t "" 1',
    'NFG 1 R "pennies" { "A" "B" } { 2 2 } 1 -1 -1 1 -1 1 1 -1',
    'NFG 1 R "outcomes" { "A" "B" } { { "u" "d" } { "l" "m" } } "c" { { "w" 2, -2 } { "x" -1/2, .5 } } 1 2 0 1',
)
ODDITIES = [
    "{",
    "}",
    '"',
    '""',
    '"\\',
    ",",
    "c",
    "p",
    "t",
    "0",
    "-1",
    "3",
    "1/0",
    "1e999",
    "nan",
    "9" * 18,
    "9" * 5000,
    "\0",
    "é",
]


def split(text: str) -> list[str]:
    return re.findall(r'"[^"]*"|[{}]|[^\s{}"]+', text)


def outcome_of_reading(folder: Path, suffix: str, content: bytes) -> Game | GameError:
    """The game, or a refusal that begins with the path; any other exception fails the test."""
    path = folder / f"case{suffix}"
    path.write_bytes(content)
    try:
        return gambit.load(path)
    except GameError as error:
        refusal = error
    assert str(refusal).startswith(f"{path}:")
    if isinstance(refusal, GameFormatError):
        assert re.fullmatch(r"\d+:\d+: \S.*", str(refusal).removeprefix(f"{path}:"))
    return refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def corpus(data: Path) -> list[str]:
    files = [path for path in sorted((data / "efg").glob("*/*.?fg")) if path.stat().st_size]
    return [*CORPUS, *(path.read_text() for path in files)]


# -------------------------------------------------------------------- arbitrary input


@IN_TIME
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), suffix=st.sampled_from([".efg", ".nfg"])
)
def test_arbitrary_bytes(folder: Path, content: bytes, suffix: str) -> None:
    assert isinstance(outcome_of_reading(folder, suffix, content), GameError)


@IN_TIME
@given(
    tokens=st.lists(st.sampled_from([*split(" ".join(CORPUS)), *ODDITIES]), max_size=60),
    head=st.sampled_from(['EFG 2 R "" { "A" "B" }', 'NFG 1 R "" { "A" "B" }']),
)
def test_arbitrary_tokens_after_a_valid_start(folder: Path, tokens: list[str], head: str) -> None:
    outcome_of_reading(folder, f".{head[:3].lower()}", " ".join([head, *tokens]).encode())


@st.composite
def mutations(draw: st.DrawFn, texts: list[str]) -> str:
    tokens = split(draw(st.sampled_from(texts)))
    for _ in range(draw(st.integers(1, 4))):
        i, j = (draw(st.integers(0, len(tokens) - 1)) for _ in range(2))
        change = draw(st.sampled_from(["delete", "duplicate", "swap", "replace", "truncate"]))
        if change == "delete" and len(tokens) > 1:
            del tokens[i]
        elif change == "duplicate":
            tokens.insert(j, tokens[i])
        elif change == "swap":
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif change == "replace":
            tokens[i] = draw(st.sampled_from(ODDITIES))
        elif change == "truncate":
            tokens = tokens[: i + 1]
    text = draw(st.sampled_from([" ", "\n", "\r\n", ",\t"])).join(tokens)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@IN_TIME
@given(text=mutations(list(CORPUS)))
def test_mutated_files(folder: Path, text: str) -> None:
    outcome_of_reading(folder, ".nfg" if "NFG" in text else ".efg", text.encode())


@IN_TIME
@given(choice=st.data())
def test_mutated_real_files(folder: Path, corpus: list[str], choice: st.DataObject) -> None:
    text = choice.draw(mutations(corpus))
    outcome_of_reading(folder, ".nfg" if "NFG" in text else ".efg", text.encode())


# -------------------------------------------------------------------- round trips

LABEL = st.text(max_size=5)
PAYOFF = st.fractions(-20, 20, max_denominator=7).map(float)
MAX_NODES = 30


def quoted(label: str) -> str:
    return '"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spelled(value: float, rng: random.Random) -> str:
    """One of the ways to write a fraction with a denominator of at most 15."""
    return rng.choice([repr(value), f"{value:.17e}", str(Fraction(value).limit_denominator(15))])


@st.composite
def trees(draw: st.DrawFn) -> Callable[[], Tree]:
    """Any tree, of any recall; the test builds it, as strategies must not run type checks that draw random numbers."""
    players = tuple(draw(st.lists(LABEL, min_size=1, max_size=3)))
    infosets: list[tuple[int, str, tuple[str, ...]]] = []
    nodes: list[tuple[int, int, int, float]] = []
    payoffs: list[tuple[float, ...]] = []
    pending = [(-1, 0, 1.0)]
    while pending:
        edge, node = pending.pop(), len(nodes)
        kind = draw(st.sampled_from(["chance", "decision", "terminal"])) if node < MAX_NODES else "terminal"
        infoset, branches = TERMINAL, []
        if kind == "chance":
            weights = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any))
            infoset, branches = CHANCE, [weight / sum(weights) for weight in weights]
        elif kind == "decision":
            infoset = draw(st.integers(0, len(infosets)))
            if infoset == len(infosets):
                actions = tuple(draw(st.lists(LABEL, min_size=1, max_size=3)))
                infosets.append((draw(st.integers(0, len(players) - 1)), draw(LABEL), actions))
            branches = [1.0] * len(infosets[infoset][2])
        nodes.append((*edge[:2], infoset, edge[2]))
        payoffs.append(tuple(draw(PAYOFF) if draw(st.booleans()) else 0.0 for _ in players))
        pending += [(node, action, branches[action]) for action in reversed(range(len(branches)))]
    parent, action, infoset, probability = (np.array(column) for column in zip(*nodes, strict=True))
    arrays = parent, action, infoset, probability, np.array(payoffs)
    return lambda: Tree("x", players, *arrays, tuple(InfosetInfo(*info) for info in infosets))


class Writer:
    """Writes a tree as a .efg file in one of many ways: numbers, repeated descriptions, commas and line ends vary."""

    def __init__(self, tree: Tree, rng: random.Random) -> None:
        self.tree, self.rng = tree, rng
        self.numbers = rng.sample(range(1, 10_000), 2 * len(tree.parent))  # any distinct ones will do
        self.known: dict[object, int] = {}

    def text(self) -> str:
        comment = [quoted(self.rng.choice(["", "two\nlines"]))] * self.rng.randint(0, 1)
        parts = ['EFG 2 R "title" {', *map(quoted, self.tree.players), "}", *comment]
        for node in range(len(self.tree.parent)):
            parts += self.node(node)
        return "".join(part + self.rng.choice([" ", "\n", "\r\n", "\t"]) for part in parts)

    def node(self, node: int) -> list[str]:
        infoset = int(self.tree.infoset[node])
        if infoset == TERMINAL:
            return ["t", '""', *self.outcome(node)]
        if infoset == CHANCE:
            odds = self.tree.probability[self.tree.parent == node].tolist()
            actions = [part for p in odds for part in (quoted("x"), spelled(p, self.rng))]
            return ["c", '""', *self.described(tuple(odds), "event", actions), *self.outcome(node)]
        info = self.tree.infosets[infoset]
        described = self.described(infoset, info.label, [quoted(action) for action in info.actions])
        return ["p", '"node"', str(info.player + 1), *described, *self.outcome(node)]

    def outcome(self, node: int) -> list[str]:
        payoffs = self.tree.payoffs[node].tolist()
        if not any(payoffs) and self.rng.random() < 0.5:
            return ["0"]
        separator = self.rng.choice(["", ","])
        return self.described(("outcome", *payoffs), "", [spelled(payoff, self.rng) + separator for payoff in payoffs])

    def described(self, thing: object, label: str, content: list[str]) -> list[str]:
        """Number, name and content: all of it when it is new, and perhaps less later."""
        new = thing not in self.known
        number = self.known.setdefault(thing, self.numbers[len(self.known)])
        name, braces = [quoted(label)], ["{", *content, "}"]
        return [str(number), *(name + braces if new else self.rng.choice([name + braces, name, braces, []]))]


@IN_TIME
@given(build=trees(), rng=st.randoms(use_true_random=False))
def test_a_written_tree_reads_as_the_same_tree(build: Callable[[], Tree], rng: random.Random) -> None:
    tree = build()
    read = gambit.parse_efg(Writer(tree, rng).text(), name="x")
    assert (read.players, read.infosets) == (tree.players, tree.infosets)
    for name in ("parent", "action", "infoset", "probability", "payoffs"):
        np.testing.assert_array_equal(getattr(read, name), getattr(tree, name), err_msg=name)


@IN_TIME
@given(
    strategies=st.lists(st.lists(LABEL, min_size=1, max_size=4).map(tuple), min_size=1, max_size=4),
    outcomes=st.booleans(),
    rng=st.randoms(use_true_random=False),
)
def test_a_written_table_reads_as_the_same_table(
    strategies: list[tuple[str, ...]], outcomes: bool, rng: random.Random
) -> None:
    shape = tuple(len(names) for names in strategies)
    cells = list(np.ndindex(shape[::-1]))  # the last index, that of the first player, runs fastest
    pool = [tuple(rng.randint(-9, 9) / rng.randint(1, 7) for _ in shape) for _ in range(5)]
    table = {cell[::-1]: rng.randrange(len(pool)) for cell in cells}
    listed = ["{", *("{ " + " ".join(map(quoted, names)) + " }" for names in strategies), "}"]
    if outcomes:
        listed += ["{", *("{ " + " ".join([quoted("o"), *(spelled(x, rng) for x in row)]) + " }" for row in pool), "}"]
        listed += [str(table[cell[::-1]] + 1) for cell in cells]
    else:
        listed += [spelled(x, rng) for cell in cells for x in pool[table[cell[::-1]]]]
    form = gambit.parse_nfg(" ".join(['NFG 1 R "title" {', *['"p"'] * len(shape), "}", *listed]), name="x")
    assert form.strategies == tuple(strategies)
    assert form.payoffs.shape == (len(shape), *shape)
    for cell, row in table.items():
        np.testing.assert_array_equal(form.payoffs[:, *cell], pool[row])
