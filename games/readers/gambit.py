"""Gambit's files: extensive games (.efg, version 2) and strategic games (.nfg, version 1, payoff and outcome form).

    EFG 2 R "title" { "player" ... } ["comment"] node ...
    node:     c "name" event ["name"] [{ "action" probability ... }] outcome
              p "name" player infoset ["name"] [{ "action" ... }] outcome
              t "name" outcome
    outcome:  number ["name"] [{ payoff ... }]

    NFG 1 R "title" { "player" ... } strategies ["comment"] body
    strategies:  { count ... }  or  { { "strategy" ... } ... }
    body:        payoff ...  or  { { "outcome" payoff ... } ... } number ...

Nodes come in prefix order. Infosets are numbered per player, events and outcomes for the whole file; the first mention
describes them, later ones may repeat the description but not change its actions, probabilities or payoffs. A play is
paid the sum of the outcomes along it; outcome 0 pays nothing. In tables the first player's strategy runs fastest. White
space and commas separate, and mean nothing else. Numbers are decimals or fractions, exact to Gambit and the nearest
float64 here.

Nothing here recurses, every file is read once from front to back, and memory stays proportional to its length.

Source: "Game representation formats", documentation of Gambit (Savani and Turocy).
"""

import math
import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from games.compile import CHANCE, NOBODY, PROBABILITY_TOLERANCE, TERMINAL, InfosetInfo, Tree, compile_tree
from games.constant_sum import constant_sum
from games.labels import told_apart, unique_labels
from games.readers.files import parse_options, refuse_others, sum_tolerance
from games.readers.gambit_tokens import TEXT, WORD, Tokens
from games.readers.source import GameFormatError, read_text
from mmd.game.game import Game, GameError, common

MAX_PLAYERS = 63  # NumPy's limit on axes, one of which counts the players
FREE_CELLS = 2**22  # payoffs (32 MB of them) that a file may stand for whatever its own length


@dataclass(frozen=True)
class StrategicForm:
    """A strategic game of any number of players.

    Attributes:
        title: as the file gives it.
        players: P names.
        strategies: names of each player's strategies; their numbers, from 1, where the file has no names.
        payoffs: [P, n1, ..., nP] payoff of each player at each combination of strategies.
    """

    title: str
    players: tuple[str, ...]
    strategies: tuple[tuple[str, ...], ...]
    payoffs: Float[np.ndarray, "P ..."]


def load(path: str | os.PathLike[str], options: Iterable[str] = ()) -> Game:
    """The two-player constant-sum game in a .nfg file, or (any other name) in a .efg file.

    Players who have no choice and are always paid 0 are left out as long as two remain. The only player of a file plays
    against nobody, who pays what the player receives.

    Args:
        path: the file.
        options: what follows the file's name in a spec: `sum_tolerance=NUMBER`, how far apart the sums of both players'
            payoffs may be.

    Raises:
        GameFormatError: the file cannot be read or breaks the format; carries line and column.
        GameError: a well-formed file whose game is not for two players, not constant-sum, or of imperfect recall; or
            options that do not fit.
    """
    path, name, options = Path(path), os.fspath(path), list(options)
    tolerance = _sum_tolerance(path, options)
    text = read_text(path)
    if path.suffix.lower() == ".nfg":
        game = _matrix_game(parse_nfg(text, name=name), name, tolerance)
    else:
        game = compile_tree(parse_efg(text, name=name), tolerance)
    # errors name the file as it was typed, results by its bare name
    return replace(game, description=replace(game.description, name="#".join([path.name, *options])))


def parse_efg(text: str, *, name: str) -> Tree:
    """The game tree in the text of a .efg file.

    Args:
        text: the whole file.
        name: of the resulting tree, and the path that errors show.

    Raises:
        GameFormatError: with the line and column of the first token that does not fit.
    """
    tokens = Tokens(text, name)
    tokens.keyword("EFG", "2", "an extensive game")
    _, players = _title_and_players(tokens)
    tokens.skip_text()
    body = _TreeBody(tokens, len(players))
    body.read()
    tokens.finish(f"the tree is complete with {len(body.parent)} nodes")
    _check_size(tokens, len(body.parent), len(players))
    return Tree(
        name=name,
        players=players,
        parent=np.frombuffer(body.parent, np.int64),
        action=np.frombuffer(body.action, np.int64),
        infoset=np.frombuffer(body.infoset, np.int64),
        probability=np.frombuffer(body.probability),
        payoffs=np.frombuffer(body.payoffs).reshape(-1, len(players))[np.frombuffer(body.outcome, np.int32)],
        infosets=tuple(body.infosets),
    )


def parse_nfg(text: str, *, name: str) -> StrategicForm:
    """The payoff table in the text of a .nfg file.

    Args:
        text: the whole file.
        name: the path that errors show.

    Raises:
        GameFormatError: with the line and column of the first token that does not fit.
    """
    tokens = Tokens(text, name)
    tokens.keyword("NFG", "1", "a strategic game")
    title, players = _title_and_players(tokens)
    counts, names = _strategies(tokens, len(players))
    tokens.skip_text()
    n_cells = math.prod(counts)
    read_cells = _outcome_cells if tokens.at("{") else _payoff_cells
    cells = read_cells(tokens, n_cells, len(players))
    tokens.finish(f"the table is complete with {n_cells} cells")
    strategies = names or tuple(tuple(map(str, range(1, n + 1))) for n in counts)
    return StrategicForm(title, players, strategies, cells.reshape(*reversed(counts), len(players)).T)


# -------------------------------------------------------------------- from the file to the game


def _sum_tolerance(path: Path, options: list[str]) -> float | None:
    try:
        chosen = parse_options(options)
        refuse_others(chosen, ("sum_tolerance",), f"{path.suffix.lower()} files")
        return sum_tolerance(chosen)
    except GameError as error:
        raise GameFormatError(path, None, None, str(error)) from None


def _matrix_game(form: StrategicForm, name: str, tolerance: float | None) -> Game:
    """The zero-sum game of a two-player constant-sum table: half the constant is the game's offset, as a rule."""
    form = _two_players(form, name)
    row, column = form.payoffs

    def where(cell: int) -> str:
        at = np.unravel_index(cell, row.shape)
        return "at " + " and ".join(repr(form.strategies[p][at[p]]) for p in (0, 1))

    constant = constant_sum(name, np.stack([row.ravel(), column.ravel()], axis=1), where, tolerance)
    labels = (unique_labels(form.strategies[0]), unique_labels(form.strategies[1]))
    offset = 0.0 if common(row) else constant / 2
    facts = told_apart(*form.strategies[:2])
    return Game.from_matrix(row - offset, name=name, labels=labels, offset=offset, facts=facts)


def _two_players(form: StrategicForm, name: str) -> StrategicForm:
    """The same table for the two players who matter, as `games.compile.two_players` has it for trees."""
    counts, payoffs = form.payoffs.shape[1:], form.payoffs
    idle = [p for p, n in enumerate(counts) if n == 1 and not payoffs[p].any()]
    left_out = idle[::-1][: max(len(counts) - 2, 0)]
    kept = [p for p in range(len(counts)) if p not in left_out]
    if len(kept) == 1:
        players, strategies = (*form.players, NOBODY), (*form.strategies, (NOBODY,))
        return StrategicForm(form.title, players, strategies, np.concatenate([payoffs, -payoffs])[..., None])
    if len(kept) != 2:
        raise GameError(f"{name}: expected two players, got {len(counts)} ({', '.join(map(repr, form.players))})")
    return StrategicForm(
        title=form.title,
        players=tuple(form.players[p] for p in kept),
        strategies=tuple(form.strategies[p] for p in kept),
        payoffs=payoffs[kept].squeeze(axis=tuple(p + 1 for p in left_out)),
    )


def _title_and_players(tokens: Tokens) -> tuple[str, tuple[str, ...]]:
    title, start = tokens.text("the title"), tokens.start
    players = tokens.names("players")
    if len(players) > MAX_PLAYERS:
        raise tokens.error(f"expected at most {MAX_PLAYERS} players, got {len(players)}", start)
    return title, players


def _check_size(tokens: Tokens, n_cells: int, n_players: int) -> None:
    """Refuse the rare file that names so many players that its payoffs dwarf it."""
    if n_cells * n_players > max(FREE_CELLS, len(tokens.source)):
        raise tokens.error(f"{n_cells} cells or nodes with payoffs for {n_players} players are too many to hold")


# -------------------------------------------------------------------- strategic games


def _strategies(tokens: Tokens, n_players: int) -> tuple[list[int], tuple[tuple[str, ...], ...]]:
    """How many strategies each player has, and their names if the file gives them."""
    counts, names = [], []
    tokens.brace("{", "'{' and the strategies")
    named = tokens.at("{")
    for player in range(1, n_players + 1):
        start = tokens.start
        if named:
            names.append(tokens.names(f"strategies of player {player}"))
            counts.append(len(names[-1]))
        else:
            counts.append(tokens.integer(f"the number of strategies of player {player} of {n_players}", 1))
        # A cell takes at least one character; a larger product is refused before it costs time or memory.
        n_cells, n_characters = math.prod(counts), len(tokens.source)
        if n_cells > n_characters:
            sentence = f"a file of {n_characters} characters cannot hold the payoffs of {n_cells} strategy profiles"
            raise tokens.error(sentence, start)
    tokens.brace("}", f"'}}' after the strategies of {n_players} players")
    return counts, tuple(names)


def _payoff_cells(tokens: Tokens, n_cells: int, n_players: int) -> Float[np.ndarray, "cells P"]:
    n = n_cells * n_players
    values = array("d", (tokens.number(f"payoff {i} of {n}") for i in range(1, n + 1)))
    return np.frombuffer(values).reshape(n_cells, n_players)


def _outcome_cells(tokens: Tokens, n_cells: int, n_players: int) -> Float[np.ndarray, "cells P"]:
    _check_size(tokens, n_cells, n_players)
    table = array("d", bytes(8 * n_players))
    tokens.brace("{", "'{' and the outcomes")
    while tokens.at("{"):
        tokens.step()
        tokens.text("the name of an outcome")
        table.extend(tokens.payoffs(n_players))
    tokens.brace("}", "'{' and another outcome, or '}' after the last one")
    n = len(table) // n_players - 1
    what = f"an outcome from 0 to {n} for cell"
    cells = array("i", (tokens.integer(f"{what} {i} of {n_cells}", 0, n) for i in range(1, n_cells + 1)))
    return np.frombuffer(table).reshape(-1, n_players)[np.frombuffer(cells, np.int32)]


# -------------------------------------------------------------------- extensive games


class _TreeBody:
    """The nodes of an extensive game, collected in prefix order as they are read.

    Attributes:
        parent, action, infoset, probability: the arrays of `Tree`.
        outcome: row of `payoffs` for each node.
        payoffs: payoffs of all outcomes, one after the other; the first row is outcome 0.
        infosets: as in `Tree`.
    """

    def __init__(self, tokens: Tokens, n_players: int) -> None:
        self.tokens, self.n_players = tokens, n_players
        self.parent, self.action, self.infoset, self.outcome = array("q"), array("q"), array("q"), array("i")
        self.probability, self.payoffs = array("d"), array("d", bytes(8 * n_players))
        self.infosets: list[InfosetInfo] = []
        self._infoset_at: list[dict[int, int]] = [{} for _ in range(n_players)]
        self._event_at: dict[int, tuple[float, ...]] = {}
        self._outcome_at: dict[int, int] = {0: 0}
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # large games repeat few lists of actions

    def read(self) -> None:
        """Read the whole tree. The stack of nodes that lack children starts with one above the root."""
        above, taken, n_branches = array("q", [-1]), array("q", [0]), array("q", [1])
        odds: list[tuple[float, ...]] = [()]
        while above:
            node, action = len(self.parent), taken[-1]
            self.parent.append(above[-1])
            self.action.append(action)
            self.probability.append(odds[-1][action] if odds[-1] else 1.0)
            taken[-1] += 1
            if taken[-1] == n_branches[-1]:
                above.pop()
                taken.pop()
                n_branches.pop()
                odds.pop()
            n_actions, chances = self._node()
            if n_actions:
                above.append(node)
                taken.append(0)
                n_branches.append(n_actions)
                odds.append(chances)

    def _node(self) -> tuple[int, tuple[float, ...]]:
        """Read one node; returns its number of actions and, at a chance node, their probabilities."""
        tokens, n_actions, chances = self.tokens, 0, ()
        if tokens.kind != WORD or tokens.value not in ("c", "p", "t"):
            raise tokens.unexpected("a node (c, p or t), as the tree is not complete")
        letter = tokens.step()
        tokens.text("the name of the node")
        infoset = TERMINAL
        if letter == "c":
            infoset, chances = CHANCE, self._event()
            n_actions = len(chances)
        elif letter == "p":
            infoset = self._decision()
            n_actions = len(self.infosets[infoset].actions)
        self.infoset.append(infoset)
        self.outcome.append(self._outcome())
        return n_actions, chances

    def _event(self) -> tuple[float, ...]:
        """Probabilities of a chance node."""
        tokens = self.tokens
        number = tokens.integer("the number of a chance event, from 1", 1)
        known = self._event_at.get(number)
        tokens.skip_text()
        if known is not None and not tokens.at("{"):
            return known
        start, chances = tokens.start, []
        tokens.brace("{", f"'{{' and the actions of chance event {number}, which is new here")
        while tokens.kind == TEXT or not chances:
            tokens.text("the name of an action")
            place = tokens.start
            chances.append(tokens.number("a probability"))
            if not 0 <= chances[-1] <= 1:
                raise tokens.error(f"expected a probability from 0 to 1, got {chances[-1]:g}", place)
        tokens.brace("}", "another action or '}'")
        total = math.fsum(chances)
        if abs(total - 1) > PROBABILITY_TOLERANCE:
            raise tokens.error(f"expected probabilities that sum to 1, got {total:.12g}", start)
        if known not in (None, tuple(chances)):
            raise tokens.error(f"chance event {number} had other probabilities before", start)
        return self._event_at.setdefault(number, tuple(chances))

    def _decision(self) -> int:
        """Index of the infoset of a player's node."""
        tokens = self.tokens
        player = tokens.integer(f"a player from 1 to {self.n_players}", 1, self.n_players) - 1
        number = tokens.integer("the number of an information set, from 1", 1)
        known = self._infoset_at[player].get(number)
        label = tokens.skip_text()
        if known is not None and not tokens.at("{"):
            return known
        start, which = tokens.start, f"information set {number} of player {player + 1}"
        if not tokens.at("{"):
            raise tokens.unexpected(f"'{{' and the actions of {which}, which is new here")
        actions = tokens.names("actions")
        if known is None:
            known = self._infoset_at[player][number] = len(self.infosets)
            self.infosets.append(InfosetInfo(player, label, self._shared.setdefault(actions, actions)))
        elif self.infosets[known].actions != actions:
            raise tokens.error(f"{which} had other actions before", start)
        return known

    def _outcome(self) -> int:
        """Row of `payoffs` for the outcome of a node."""
        tokens = self.tokens
        number = tokens.integer("the number of an outcome, 0 for none", 0)
        known = self._outcome_at.get(number)
        tokens.skip_text()
        if known is not None and not tokens.at("{"):
            return known
        start = tokens.start
        tokens.brace("{", f"'{{' and the payoffs of outcome {number}, which is new here")
        payoffs = array("d", tokens.payoffs(self.n_players))
        if known is None:
            known = self._outcome_at[number] = len(self.payoffs) // self.n_players
            self.payoffs.extend(payoffs)
        elif self.payoffs[known * self.n_players : (known + 1) * self.n_players] != payoffs:
            sentence = f"outcome {number} had other payoffs before" if number else "outcome 0 pays nothing"
            raise tokens.error(sentence, start)
        return known
