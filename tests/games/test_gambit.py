"""What Gambit's files mean: grammar, numbers, sharing by number, and the place of every mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from games import load
from games.compile import CHANCE, TERMINAL, Tree
from games.readers import gambit
from games.readers.files import GameFormatError
from mmd.game.game import GameError
from mmd.measure.exact import solve_exactly
from mmd.measure.sequence_form import payoff_matrix
from tests.games.plain import lp_value

PENNIES = """EFG 2 R "pennies" { "A" "B" }
"a comment"

p "" 1 1 "" { "l" "r" } 0
p "" 2 1 "" { "L" "R" } 0
t "" 1 "" { 1, -1 }
t "" 2 "" { -1, 1 }
p "" 2 1 "" { "L" "R" } 0
t "" 2 "" { -1, 1 }
t "" 1 "" { 1, -1 }
"""
TABLE = 'NFG 1 R "t" { "A" "B" } { 2 3 }\n"comment"\n1 -1 2 -2 3 -3 4 -4 5 -5 6 -6\n'


def efg(body: str) -> Tree:
    """Two players' tree with this body on line 2."""
    return gambit.parse_efg('EFG 2 R "" { "A" "B" }\n' + body, name="x.efg")


def nfg(rest: str) -> gambit.StrategicForm:
    """A table with this text on line 2."""
    return gambit.parse_nfg('NFG 1 R ""\n' + rest, name="x.nfg")


def assert_same_tree(one: Tree, other: Tree) -> None:
    assert (one.name, one.players, one.infosets) == (other.name, other.players, other.infosets)
    for name in ("parent", "action", "infoset", "probability", "payoffs"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# -------------------------------------------------------------------- the real files

PLACES = {  # line, column and a part of the sentence for each malformed file
    "bad_truncated.efg": (6, 12, "payoff 1 of 2"),
    "bad_missing_last_terminal.efg": (9, 20, "the tree is not complete, got the end of the file"),
    "bad_trailing_node.efg": (11, 1, "the tree is complete with 7 nodes, got 't'"),
    "bad_player_index.efg": (5, 6, "a player from 1 to 2, got '3'"),
    "bad_payoff_count.efg": (6, 15, "payoff 2 of 2, a number like 3, -0.25 or 1/3, got '}'"),
    "bad_payoff_text.efg": (6, 13, "a number like 3, -0.25 or 1/3, got 'one'"),
    "bad_div_zero.efg": (6, 13, "a fraction with a finite value, got '1/0'"),
    "bad_chance_sum.efg": (4, 11, "probabilities that sum to 1, got 0.8333"),
    "bad_chance_missing_prob.efg": (4, 25, "a probability, a number like 3, -0.25 or 1/3, got '}'"),
    "bad_infoset_actions.efg": (8, 13, "information set 1 of player 2 had other actions before"),
    "bad_node_kind.efg": (7, 1, "a node (c, p or t), as the tree is not complete, got 'q'"),
    "bad_magic.efg": (1, 1, "'EFG' (an extensive game starts with EFG 2 R), got 'GFE'"),
    "bad_open_string.efg": (1, 16, "'{' and the names of the players, got 'A'"),
    "bad_empty.efg": (1, 1, "the file is empty"),
    "bad_too_few.nfg": (3, 17, "payoff 8 of 8, a number like 3, -0.25 or 1/3, got the end of the file"),
    "bad_dims.nfg": (1, 32, "'}' after the strategies of 2 players, got '2'"),
    "bad_huge_dims.nfg": (1, 30, "57 characters cannot hold the payoffs of 1000000000 strategy profiles"),
    "bad_outcome_index.nfg": (4, 5, "an outcome from 0 to 1 for cell 3 of 4, got '2'"),
}
REFUSED = {
    "bad_imperfect_recall.efg": "expected perfect recall",
    "bad_general_sum.efg": "expected payoffs with a constant sum, got the sum 0 .* and 8 after l > L",
}
VALUES = {
    "ok_plain.efg": 0,
    "ok_crlf.efg": 0,
    "ok_no_commas_short_infoset.efg": 0,
    "ok_rational_decimal.efg": -1 / 3,
    "ok_utf8_names.efg": 0,
    "ok_plain.nfg": 0,
    "ok_outcome_form.nfg": 0,
}
OPENSPIEL = {  # infosets of each player, strategies for tables, and the value or why there is none
    "commas.efg": ([1, 2], "constant sum"),
    "extended_bos.efg": ([3, 1], "constant sum"),
    "extended_mp.efg": ([3, 1], 0.0),
    "greenwald_sarfati_example1.efg": ([3, 1], "constant sum"),
    "greenwald_sarfati_example2.efg": ([3, 1], "constant sum"),
    "kuhn_poker.efg": ([6, 6], -1 / 18),
    "sample.efg": ([2, 2], "constant sum"),
    "signaling_vonstengel_forges_2008.efg": ([2, 2], "constant sum"),
    "matching_pennies_3p.nfg": ([2, 2, 2], "expected two players, got 3 .'Player 0', 'Player 1', 'Player 2'."),
    "sample.nfg": ([3, 2], "got the sum 2 at '1' and '1', and 3 at '2' and '2', which differ by 1; gen"),
}


def test_the_tables_above_cover_both_folders(data: Path) -> None:
    cases = json.loads((data / "efg/malformed/MANIFEST.json").read_text())["cases"]
    expected = {case["file"]: case["expect"] for case in cases}
    verdicts = {"reject": PLACES, "solver-rejects": REFUSED, "accept": VALUES}
    assert expected == {name: verdict for verdict, names in verdicts.items() for name in names}
    assert set(OPENSPIEL) == {path.name for path in (data / "efg/openspiel").iterdir()}


@pytest.mark.parametrize("name", PLACES)
def test_malformed_files_are_refused_at_their_line_and_column(data: Path, name: str) -> None:
    path = data / "efg/malformed" / name
    line, column, sentence = PLACES[name]
    with pytest.raises(GameFormatError) as refusal:
        gambit.load(path)
    assert str(refusal.value).startswith(f"{path}:{line}:{column}: ")
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("name", REFUSED)
def test_well_formed_files_of_other_games_are_refused_by_name(data: Path, name: str) -> None:
    path = data / "efg/malformed" / name
    assert gambit.parse_efg(path.read_text(), name=name).players == ("A", "B")
    with pytest.raises(GameError, match=f"{name}: {REFUSED[name]}") as refusal:
        gambit.load(path)
    assert not isinstance(refusal.value, GameFormatError)


@pytest.mark.parametrize("name", VALUES)
def test_values_of_the_accepted_files(data: Path, name: str) -> None:
    np.testing.assert_allclose(
        solve_exactly(gambit.load(data / "efg/malformed" / name)).value, VALUES[name], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", OPENSPIEL)
def test_openspiel_files(data: Path, name: str) -> None:
    path, (sizes, verdict) = data / "efg/openspiel" / name, OPENSPIEL[name]
    if name.endswith(".nfg"):
        form = gambit.parse_nfg(path.read_text(), name=name)
        assert [len(strategies) for strategies in form.strategies] == sizes
        assert form.payoffs.shape == (len(sizes), *sizes)
    else:
        tree = gambit.parse_efg(path.read_text(), name=name)
        assert [sum(info.player == player for info in tree.infosets) for player in (0, 1)] == sizes
    if isinstance(verdict, str):
        with pytest.raises(GameError, match=verdict):
            gambit.load(path)
    else:
        game = gambit.load(path)
        assert [player.n_infosets for player in game.players] == sizes
        np.testing.assert_allclose(solve_exactly(game).value, verdict, rtol=0, atol=1e-12)


# -------------------------------------------------------------------- players

GUESS = (
    'p "" {p} 1 "" {{ "l" "r" }} 0 p "" {q} 1 "" {{ "L" "R" }} 0 {leaves}'  # the second player does not see the first
)
LEAVES = 't "" 1 {{ {0} }} t "" 2 {{ {1} }} p "" {q} 1 0 t "" 3 {{ {2} }} t "" 4 {{ {3} }}'
PLAYERS = [  # file, ending, infosets of each player, value
    ('EFG 2 R "t" { "A" }' + ' p "" 1 1 "" { "a" "b" } 0 t "" 1 { 3 } t "" 2 { 5 }', "efg", [1, 0], 5),
    ('EFG 2 R "t" { "A" "B" }' + ' p "" 1 1 "" { "a" "b" } 0 t "" 1 { 3 -3 } t "" 2 { 5 -5 }', "efg", [1, 0], 5),
    ('EFG 2 R "t" { "A" "B" }' + ' p "" 2 1 "" { "a" "b" } 0 t "" 1 { 3 -3 } t "" 2 { 5 -5 }', "efg", [0, 1], 3),
    ('EFG 2 R "t" { "A" } c "" 1 { "x" 1/4 "y" 3/4 } 0 t "" 1 { 8 } t "" 2 { 4 }', "efg", [0, 0], 5),
    ('EFG 2 R "t" { "A" "B" } t "" 1 { 2.5 1.5 }', "efg", [0, 0], 2.5),
    ('NFG 1 R "t" { "A" } { 3 } 1 7 2', "nfg", [1, 1], 7),
    ('NFG 1 R "t" { "A" "Idle" "B" } { 2 1 2 } 3 0 -3 -1 0 1 -1 0 1 1 0 -1', "nfg", [1, 1], 1 / 3),
    ('NFG 1 R "t" { "Idle" "A" "Too" "B" } { 1 2 1 2 } 0 3 0 -3 0 -1 0 1 0 -1 0 1 0 1 0 -1', "nfg", [1, 1], 1 / 3),
    *[
        (
            f'EFG 2 R "t" {{ {names} }} '
            + GUESS.format(p=p, q=q, leaves=LEAVES.format(*(cell.format(a, -a) for a in (3, -1, -1, 1)), q=q)),
            "efg",
            [1, 1],
            1 / 3,
        )
        for names, p, q, cell in (
            ('"A" "B" "Idle"', 1, 2, "{} {} 0"),
            ('"A" "Idle" "B"', 1, 3, "{} 0 {}"),
            ('"Idle" "A" "B"', 2, 3, "0 {} {}"),
            ('"Idle" "A" "Too" "B"', 2, 4, "0 {} 0 {}"),
        )
    ],
]


@pytest.mark.parametrize(("text", "ending", "sizes", "value"), PLAYERS)
def test_players_without_a_choice(tmp_path: Path, text: str, ending: str, sizes: list[int], value: float) -> None:
    """[[3, -1], [-1, 1]] has value 1/3, whoever else sits at the table; one player alone takes the best."""
    path = tmp_path / f"x.{ending}"
    path.write_text(text)
    game = gambit.load(path)
    assert [player.n_infosets for player in game.players] == sizes
    np.testing.assert_allclose(lp_value(game), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        'NFG 1 R "t" { "A" "Idle" "B" } { 2 1 2 } 3 0 -3 -1 0 1 -1 1 0 1 0 -1',
        'NFG 1 R "t" { "A" "C" "B" } { 2 2 1 } 3 0 -3 -1 0 1 -1 0 1 1 0 -1',
        'EFG 2 R "t" { "A" "B" "C" } p "" 1 1 { "a" "b" } 0 t "" 1 { 3 -3 0 } t "" 2 { 5 -6 1 }',
        'EFG 2 R "t" { "A" "B" "C" } p "" 3 1 { "a" "b" } 0 t "" 1 { 3 -3 0 } t "" 2 { 5 -5 0 }',
    ],
)
def test_three_players_who_matter_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"x.{text[:3].lower()}"
    path.write_text(text)
    with pytest.raises(GameError, match="expected two players, got 3"):
        gambit.load(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.efg", 'EFG 2 R "" {"A" "B"} p "" 1 1 {"a" "b"} 0 t "" 1 {.333333 .666667} t "" 2 {.25 .750001}'),
        ("x.nfg", 'NFG 1 R "" {"A" "B"} { {"a" "b"} {"x"} } .333333 .666667 .25 .750001'),
    ],
)
def test_rounded_payoffs_have_their_difference_named_and_are_read_with_a_tolerance(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(GameError) as refusal:
        gambit.load(path)
    for part in ("got the sum 1 ", "and 1.000001 ", "which differ by 1e-06", "allow it with #sum_tolerance=2e-06"):
        assert part in str(refusal.value)
    game = load(f"{path}#sum_tolerance=2e-6")
    assert game.name == f"{name}#sum_tolerance=2e-6"
    np.testing.assert_allclose(lp_value(game), 0.333333, rtol=0, atol=1e-12)
    for option, sentence in {
        "sum_tolerance=x": "expected #sum_tolerance= and a number of at least 0, got 'x'",
        "judge=x": f"#judge does not apply to {path.suffix} files, try #sum_tolerance",
    }.items():
        with pytest.raises(GameFormatError) as refusal:
            load(f"{path}#{option}")
        assert refusal.value.sentence == sentence


# -------------------------------------------------------------------- trees


def test_a_tree_node_by_node() -> None:
    tree = efg("""
        c "deal" 7 "cards" { "high" 1/4 "low" .75 } 3 "ante" { 1/2 -5e-1 }
        p "" 2 9 "B's turn" { "call" "fold" } 0
        t "" 1 "win" { 2, -2, }
        t "" 3
        p "" 2 9 4 "side bet" { -1, 1. }
        t "" 1
        t "" 0""")
    np.testing.assert_array_equal(tree.parent, [-1, 0, 1, 1, 0, 4, 4])
    np.testing.assert_array_equal(tree.action, [0, 0, 0, 1, 1, 0, 1])
    np.testing.assert_array_equal(tree.infoset, [CHANCE, 0, TERMINAL, TERMINAL, 0, TERMINAL, TERMINAL])
    np.testing.assert_array_equal(tree.probability, [1, 1 / 4, 1, 1, 3 / 4, 1, 1])
    np.testing.assert_array_equal(tree.payoffs[:, 0], [0.5, 0, 2, 0.5, -1, 2, 0])
    np.testing.assert_array_equal(tree.payoffs[:, 1], -tree.payoffs[:, 0])
    (info,) = tree.infosets
    assert (info.player, info.label, info.actions) == (1, "B's turn", ("call", "fold"))


def test_payoffs_at_inner_nodes_add_up_along_the_play(tmp_path: Path) -> None:
    path = tmp_path / "stages.efg"
    path.write_text("""EFG 2 R "" { "A" "B" }
        p "" 1 1 "" { "l" "r" } 1 "" { 10 -10 }
        p "" 2 1 "" { "L" "R" } 2 "" { 100 -100 }
        t "" 3 "" { 1 -1 } t "" 4 "" { 2 -2 }
        p "" 2 1 0
        t "" 4 t "" 5 "" { 3 -3 }""")
    game = gambit.load(path)
    matrix = payoff_matrix(game).toarray()[1:, 1:]
    np.testing.assert_array_equal(matrix, [[111, 112], [12, 13]])
    np.testing.assert_allclose(solve_exactly(game).value, 111)


def test_infosets_are_numbered_per_player_and_keep_blank_and_repeated_labels() -> None:
    tree = efg('p "" 1 5 "" { "" "" } 0 p "" 2 5 "" { "x" "x" } 0 t "" 0 t "" 0 t "" 0')
    assert [(info.player, info.label, info.actions) for info in tree.infosets] == [
        (0, "", ("", "")),
        (1, "", ("x", "x")),
    ]


def test_a_payoff_sum_other_than_zero_becomes_the_offset(tmp_path: Path) -> None:
    table = np.array([[0.3, 0.9], [0.8, 0.1]])  # to the row player; together they get 1
    (tmp_path / "x.nfg").write_text('NFG 1 R "" {"A" "B"} {2 2} .3 .7 .8 .2 .9 .1 .1 .9')
    (tmp_path / "x.efg").write_text(
        'EFG 2 R "" {"A" "B"} p "" 1 1 "" {"l" "r"} 0 p "" 2 1 "" {"L" "R"} 0 t "" 1 "" {.3 .7} t "" 2 "" {.9 .1}'
        ' p "" 2 1 0 t "" 3 "" {.8 .2} t "" 4 "" {.1 .9}'
    )
    for name in ("x.nfg", "x.efg"):
        game = gambit.load(tmp_path / name)
        assert game.description.offset == 0.5
        np.testing.assert_allclose(payoff_matrix(game).toarray()[1:, 1:], table - 0.5, rtol=0, atol=1e-15)
        # The mixed value of [[a, b], [c, d]] without a saddle: (ad - bc) / (a + d - b - c).
        np.testing.assert_allclose(
            solve_exactly(game).value, (0.3 * 0.1 - 0.9 * 0.8) / (0.3 + 0.1 - 0.9 - 0.8), rtol=0, atol=1e-12
        )
        assert game.description.payoff_range == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", 3),
        ("+3", 3),
        ("-0.25", -0.25),
        (".5", 0.5),
        ("5.", 5),
        ("1e-3", 1e-3),
        ("-1.5E+2", -150),
        ("1/3", 1 / 3),
        ("-7/21", -1 / 3),
        ("0.1", 0.1),
        ("9007199254740993/9007199254740992", 1.0),
        ("1e100", 1e100),
        ("1e-999", 0),
    ],
)
def test_numbers(written: str, expected: float) -> None:
    assert efg(f't "" 1 "" {{ {written} 0 }}').payoffs[0, 0] == expected


@pytest.mark.parametrize(
    "written", ["nan", "inf", "1e999", "-1e101", "1_0", "0x1", "1/-3", "1.5/2", "٣", "1/0", "--1", "e5"]
)
def test_what_is_no_number(written: str) -> None:
    with pytest.raises(GameFormatError, match=r"x\.efg:2:13: expected payoff 1 of 2") as refusal:
        efg(f't "" 1 "" {{ {written} 0 }}')
    assert repr(written) in str(refusal.value)


def test_layout_means_nothing() -> None:
    plain = gambit.parse_efg(PENNIES, name="x")
    for text in (
        PENNIES.replace("\n", "\r\n"),
        " ".join(PENNIES.split("\n")),
        PENNIES.replace(",", ""),
        PENNIES.replace(",", " , ").replace(" }", ",}"),
        PENNIES.replace('"a comment"\n', ""),
        PENNIES.replace("a comment", "over\nlines, { t 1"),
        PENNIES.replace('" "', '"\t"').replace(" {", "{").replace("} ", "}").replace(' "" ', '""'),
        PENNIES.replace("EFG 2 R", "\n\n\tEFG 2 D"),
    ):
        assert_same_tree(gambit.parse_efg(text, name="x"), plain)


def test_texts_hold_escaped_quotes_other_backslashes_and_any_alphabet(tmp_path: Path) -> None:
    path = tmp_path / "x.efg"
    names = r'{ "say \"hi\"" "a\\b" "C:\d" "Zoë 策" "{,}" }'
    text = f'EFG 2 R "" {{ "é" "2" }} p "" 1 1 "" {names} 0 ' + 't "" 0 ' * 5
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    game = gambit.load(path)
    assert game.description.labels is not None
    assert game.description.labels[0].actions[0] == ('say "hi"', "a\\b", "C:\\d", "Zoë 策", "{,}")


def test_other_encodings_are_refused_where_they_differ(tmp_path: Path) -> None:
    path = tmp_path / "x.efg"
    path.write_bytes('EFG 2 R ""\n{ "é'.encode() + b"\xe9")
    with pytest.raises(GameFormatError, match="UTF-8") as refusal:
        gambit.load(path)
    assert (refusal.value.line, refusal.value.column) == (2, 5)


@pytest.mark.parametrize(
    ("body", "column", "sentence"),
    [
        ('p "" 1 1 0', 10, "the actions of information set 1 of player 1, which is new here, got '0'"),
        ('p "" 1 1 "i" { } 0', 16, "a name for one of the actions in quotation marks, got '}'"),
        ('p "" 1 0 "i" { "a" } 0', 8, "the number of an information set, from 1, got '0'"),
        ('p "" 1 1 { "a" "b" } 0 p "" 1 1 { "b" "a" } 0', 33, "information set 1 of player 1 had other actions before"),
        ('c "" 1 0', 8, "the actions of chance event 1, which is new here, got '0'"),
        ('c "" 1 { "a" -1 "b" 2 } 0', 14, "a probability from 0 to 1, got -1"),
        ('c "" 1 { "a" 1 } 0 c "" 1 { "a" .5 "b" .5 } 0', 27, "chance event 1 had other probabilities before"),
        ('t "" 4', 7, "the payoffs of outcome 4, which is new here, got the end of the file"),
        ('t "" 0 { 1 -1 }', 8, "outcome 0 pays nothing"),
        ('p "" 1 1 { "a" } 2 { 1 0 } t "" 2 { 1 1 }', 35, "outcome 2 had other payoffs before"),
        ('t "" 1 { 1 -1 1 }', 15, "'}' after 2 payoffs, got '1'"),
        ("t 1 { 1 -1 }", 3, "the name of the node in quotation marks, got '1'"),
        ('t "" 1.0 { 1 -1 }', 6, "the number of an outcome, 0 for none, got '1.0'"),
        ('t "" 1234567890123456789 { 1 -1 }', 6, "the number of an outcome"),
        ('t "" 1 "open { 1 -1 }', 8, "expected the quotation mark that closes this text"),
        ('t "" ' + "x" * 99, 6, f"got '{'x' * 37}...'"),
    ],
)
def test_places_of_mistakes_in_trees(body: str, column: int, sentence: str) -> None:
    with pytest.raises(GameFormatError) as refusal:
        efg(body)
    assert (refusal.value.path, refusal.value.line, refusal.value.column) == ("x.efg", 2, column)
    assert sentence in refusal.value.sentence


# -------------------------------------------------------------------- tables


def test_the_first_players_strategy_runs_fastest() -> None:
    form = gambit.parse_nfg(TABLE, name="x")
    assert (form.title, form.players, form.strategies) == ("t", ("A", "B"), (("1", "2"), ("1", "2", "3")))
    np.testing.assert_array_equal(form.payoffs, [[[1, 3, 5], [2, 4, 6]], [[-1, -3, -5], [-2, -4, -6]]])


def test_three_players_cell_by_cell() -> None:
    counts = (2, 3, 4)
    payoff = {(i, j, k): (i, 10 * j, 100 * k) for i in range(2) for j in range(3) for k in range(4)}
    order = [(i, j, k) for k in range(4) for j in range(3) for i in range(2)]
    cells = " ".join(str(number) for cell in order for number in payoff[cell])
    form = nfg(f'{{ "A" "B" "C" }} {{ {" ".join(map(str, counts))} }} {cells}')
    for cell, expected in payoff.items():
        np.testing.assert_array_equal(form.payoffs[:, *cell], expected)


def test_outcome_form(data: Path) -> None:
    game = gambit.load(data / "efg/malformed/ok_outcome_form.nfg")
    np.testing.assert_array_equal(payoff_matrix(game).toarray()[1:, 1:], [[2, -1, 0], [-1, 2, 0]])
    assert game.description.labels is not None
    assert [player.actions[0] for player in game.description.labels] == [("u", "d"), ("l", "m", "r")]


def test_both_forms_and_both_spellings_of_strategies_agree() -> None:
    tables = [
        nfg('{ "A" "B" } { { "1" "2" } { "1" "2" } } 5 -5 0 0 0 0 1/2 -.5'),
        nfg('{ "A" "B" } { 2 2 } { { "x" 5 -5 } { "y" .5 -1/2 } } 1 0 0 2'),
        nfg('{ "A" "B" } { 2 2 } "c" { { "" 5 -5 } { "" 0 0 } { "" 0.5, -0.5 } } 1, 2, 2, 3'),
    ]
    for table in tables:
        assert table.strategies == (("1", "2"), ("1", "2"))
        np.testing.assert_array_equal(table.payoffs, [[[5, 0], [0, 0.5]], [[-5, 0], [0, -0.5]]])


@pytest.mark.parametrize(
    ("rest", "column", "sentence"),
    [
        ("{ } { 2 }", 3, "a name for one of the players in quotation marks, got '}'"),
        ('{ "A" "B" } { 2 0 } 1', 17, "the number of strategies of player 2 of 2, got '0'"),
        ('{ "A" "B" } { 2 } 1 1 1 1', 17, "the number of strategies of player 2 of 2, got '}'"),
        ('{ "A" "B" } { { "u" } } 1 1', 23, "'{' and the names of the strategies of player 2, got '}'"),
        ('{ "A" "B" } { 1 1 } 1 1 1', 25, "the end of the file, as the table is complete with 1 cells, got '1'"),
        ('{ "A" "B" } { 1 1 } { { "x" 1 } } 1', 31, "payoff 2 of 2"),
        ('{ "A" "B" } { 1 1 } { 1 1 } 1', 23, "'{' and another outcome, or '}' after the last one, got '1'"),
        ('{ "A" "B" } { 1 1 } { } 1', 25, "an outcome from 0 to 0 for cell 1 of 1, got '1'"),
        ("{ " + '"" ' * 64 + "} { 1 }", 1, "at most 63 players, got 64"),
    ],
)
def test_places_of_mistakes_in_tables(rest: str, column: int, sentence: str) -> None:
    with pytest.raises(GameFormatError) as refusal:
        nfg(rest)
    assert (refusal.value.line, refusal.value.column) == (2, column)
    assert sentence in refusal.value.sentence
