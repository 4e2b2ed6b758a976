"""What Gambit's files may cost to read: time linear in their length, memory of twenty times it, no deep recursion."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from games.readers import gambit
from games.readers.files import GameFormatError
from mmd.measure.exact import solve_exactly

MEASURE = """
import json, sys, time, tracemalloc
from pathlib import Path
from games.readers import gambit
from games.readers.files import GameFormatError, read_text

def measured(path, measure):
    parse = gambit.parse_nfg if path.suffix == ".nfg" else gambit.parse_efg
    before = measure()
    try:
        parse(read_text(path), name=path.name)
    except GameFormatError:
        pass
    return measure() - before

def costs(path):
    if path.stem in ("one.efg", "four.efg"):  # the ratio of their times is looked at
        return min(measured(path, time.process_time) for _ in range(3)), 0
    seconds = measured(path, time.process_time)
    tracemalloc.start()
    measured(path, time.process_time)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak

print(json.dumps({path.stem: costs(path) for path in Path(sys.argv[1]).iterdir()}))
"""
N = 5_000
EFG, NFG = 'EFG 2 R ""{"A""B"}', 'NFG 1 R ""{"A""B"}'
NODE = 'p "" 1 1 "a name" { "l" "r" } 0 t "" 1 "" { 1, -1 } '
HOSTILE = {
    "wide.efg": EFG + 'p""1 1{' + '""' * N + "}0 " + 't""0 ' * N,
    "deep.efg": EFG + 'p""1 1{"""x"}0 ' + 'p""1 1 0 ' * N,
    "infosets.efg": EFG + "".join(f'p""1 {i}{{""}}0 ' for i in range(1, N)) + 't""0',
    "labels.efg": EFG + "".join(f'p""1 {i}{{"a{i}""b{i}"}}0 ' for i in range(1, N)),
    "outcomes.efg": EFG + 'p""1 1{' + '""' * N + "}0 " + "".join(f't""{i}{{0 0}}' for i in range(1, N + 1)),
    "events.efg": EFG + "".join(f'c""{i}{{""1}}0 ' for i in range(1, N)) + 't""0',
    "quote.efg": EFG + 't "' + "x" * 50 * N + '\\"' * N,
    "digits.efg": EFG + 't "" 1 "" { ' + "1" * N + "/" + "1" * N,
    "decimal.efg": EFG + 't "" 1 "" { 0.' + "1" * 50 * N + " 0 }",
    "braces.efg": EFG + "{" * 20 * N,
    "names.efg": 'EFG 2 R ""{' + '""' * 20 * N + "}",
    "cells.nfg": NFG + f"{{{N} 2}}" + "0 " * 4 * N,
    "outcomes.nfg": NFG + "{100 100}{}" + "0 " * 100 * 100,
    "claim.nfg": NFG + "{1000000000 1}" + "1 " * 500,
    "claims.nfg": NFG + "{100000000000000000 100000000000000000}" + "1 " * 500,
}
ORDINARY = {"one.efg": EFG + NODE * 2 * N + 't "" 0', "four.efg": EFG + NODE * 8 * N + 't "" 0'}


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[float, int]]:
    """Processor seconds and, of hostile files, peak bytes to read each, without this suite's type checks."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, text in (HOSTILE | ORDINARY).items():
        (folder / f"{name}.{name[-3:]}").write_text(text)
    done = subprocess.run([sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_no_more_than_their_length_allows(costs: dict[str, tuple[float, int]], name: str) -> None:
    seconds, peak = costs[name]
    assert peak < 20 * len(HOSTILE[name]) + 1e5
    assert seconds < 2


def test_time_is_linear_in_the_length(costs: dict[str, tuple[float, int]]) -> None:
    assert len(ORDINARY["four.efg"]) > 2e6
    assert costs["four.efg"][0] < 8 * costs["one.efg"][0]  # 4 times if linear, 16 times if quadratic


@pytest.mark.parametrize("n_players", [3, 60])
def test_many_players_with_a_large_table_are_refused_before_it_is_built(n_players: int) -> None:
    n = 2 * gambit.FREE_CELLS // n_players
    text = 'NFG 1 R ""{' + '""' * n_players + f"}}{{{n} " + "1 " * (n_players - 1) + '}{{""' + " 1" * n_players + "}}"
    with pytest.raises(GameFormatError, match=f"{n} cells or nodes with payoffs for {n_players} players are too many"):
        gambit.parse_nfg(text + " " * n, name="x")


def test_a_tree_5000_deep(tmp_path: Path) -> None:
    path, depth = tmp_path / "deep.efg", 5_000
    lines = ['EFG 2 R "" { "A" "B" }']
    for i in range(depth):
        lines += [f'p "" {1 + i % 2} {i + 1} "" {{ "stop" "go" }} 0', f't "" {i + 1} "" {{ {i} {-i} }}']
    path.write_text("\n".join([*lines, 't "" 0']))
    tree = gambit.parse_efg(path.read_text(), name="x")
    np.testing.assert_array_equal(tree.parent[1::2], np.arange(0, 2 * depth, 2))
    np.testing.assert_array_equal(tree.parent[2::2], np.arange(0, 2 * depth, 2))
    game = gambit.load(path)
    assert [player.n_infosets for player in game.players] == [depth // 2, depth // 2]
    # B stops at its first turn, which pays 1 to A: by backward induction going on is never worth more to B.
    np.testing.assert_allclose(solve_exactly(game).value, 1, rtol=0, atol=1e-9)
