"""The JSON, CSV and NumPy readers: real data, round trips, and refusals with their place."""

import codecs
import contextlib
import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import mmd
from games import load
from games.readers.files import GameFormatError
from tests.games import plain


def payoffs_of(game) -> np.ndarray:
    """The payoff matrix without the empty sequences, with the constant that was taken out of it."""
    constant = 0.0 if game.description.symmetric else game.description.offset
    return plain.matrix_of(game)[1:, 1:] + constant


def labels_of(game) -> tuple[tuple[str, ...], tuple[str, ...]]:
    row, column = plain.labels(game)
    return tuple(row.actions[0]), tuple(column.actions[0])


def refused(path, content: str | bytes | None = None, options: str = "") -> GameFormatError:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(GameFormatError) as error:
        load(f"{path}{options}")
    assert str(error.value).startswith(str(path))
    return error.value


# -------------------------------------------------------------------- real data


UNREAD = {
    "qlora_vicuna80_gpt4": "wins_plus_half_ties, ties, judged, first_position_win_tie_loss",
    "mtbench_en_six_judges": "wins_plus_half_ties of judges, judged of judges",
}


def test_every_real_preference_matrix_and_election_is_a_symmetric_game(data):
    """Value 1/2 for preferences, 0 for margins; the equilibrium of those with a Condorcet winner is that winner."""
    paths = sorted([*data.glob("llm/*.json"), *data.glob("elections/*.json")])
    assert len(paths) == 12
    for path in paths:
        subset = "#subset=fully_observed_subset" if path.name == "chatbot_arena_20240329.json" else ""
        game = load(f"{path}{subset}")
        payoffs, names = payoffs_of(game), labels_of(game)[0]
        np.testing.assert_allclose(plain.lp_value(game), game.description.offset, rtol=0, atol=1e-9)
        best = payoffs.min(axis=1).argmax()
        winner = f"{names[best]} beats every other: the Condorcet winner"
        has_one = payoffs[best].min() == 0 and np.count_nonzero(payoffs[best] > 0) == len(names) - 1
        unread = (f"fields not read: {UNREAD[path.stem]}",) if path.stem in UNREAD else ()
        assert game.description.facts == (winner if has_one else "no Condorcet winner", *unread), path.name


def test_condorcet_winners_of_real_elections(data):
    """Two elections whose Condorcet winner lost the instant run-off, one without surprise; Arena models in a cycle."""

    def facts(path: str) -> tuple[str, ...]:
        return load(data / path).description.facts

    assert facts("elections/us_vt_btv_2009_03_mayor.json")[0].startswith("Andy Montroll beats every other")
    assert facts("elections/us_ak_2022_08_cd.json")[0].startswith("Begich, Nick beats every other")
    assert facts("elections/us_me_2018_06_gov-primary-dem.json")[0].startswith("Janet T. Mills beats every other")
    assert facts("llm/chatbot_arena_cyclic_subset.json") == ("no Condorcet winner",)


def test_models_that_never_met_are_named_and_the_files_own_subset_is_offered(data):
    error = refused(data / "llm/chatbot_arena_20240329.json")
    assert "'claude-3-opus-20240229' and 'claude-2.0' were never compared" in str(error)
    assert str(error).endswith("try #subset=fully_observed_subset")


def test_subset_keeps_the_listed_models(data):
    path = data / "llm/chatbot_arena_20240329.json"
    raw = json.loads(path.read_text())
    game = load(f"{path}#subset=fully_observed_subset")
    members = raw["fully_observed_subset"]
    assert labels_of(game)[0] == tuple(raw["names"][i] for i in members)
    np.testing.assert_allclose(
        payoffs_of(game)[2, 5], raw["preference"][members[2]][members[5]] - 0.5, rtol=0, atol=1e-15
    )
    assert game.name == "chatbot_arena_20240329.json#subset=fully_observed_subset"


def test_judges_are_pooled_or_chosen(data):
    path = data / "llm/mtbench_en_six_judges.json"
    judges = json.loads(path.read_text())["judges"]
    pooled = sum(np.array(judge["preference"]) for judge in judges.values()) / 6
    np.testing.assert_allclose(payoffs_of(load(path)), pooled - 0.5, rtol=0, atol=1e-15)
    one = np.array(judges["exaone_32B"]["preference"])
    np.testing.assert_allclose(payoffs_of(load(f"{path}#judge=exaone_32B")), one - 0.5, rtol=0, atol=1e-15)
    assert "no judge is called 'exaone_32b': try exaone_32B" in str(refused(path, options="#judge=exaone_32b"))


def test_bot_table_as_it_stands_and_antisymmetrized(data):
    path = data / "games/rrps_bots_43.json"
    table = np.array(json.loads(path.read_text())["payoff"])
    game = load(path)
    np.testing.assert_array_equal(payoffs_of(game), table)
    assert not game.description.symmetric
    fair = load(f"{path}#antisymmetrized")
    np.testing.assert_allclose(payoffs_of(fair), (table - table.T) / 2, rtol=0, atol=1e-12)
    assert fair.description.symmetric
    np.testing.assert_allclose(plain.lp_value(fair), 0.0, rtol=0, atol=1e-7)


# -------------------------------------------------------------------- JSON


def preference_file(**fields) -> str:
    return json.dumps(
        {"kind": "pairwise_preference", "names": ["x", "y"], "preference": [[None, 0.7], [0.3, None]], **fields}
    )


def test_election_margins_are_shares_of_the_ballots(tmp_path):
    path = tmp_path / "vote.json"
    counts = [[0, 6, 1], [2, 0, 5], [4, 3, 0]]
    path.write_text(
        json.dumps({"kind": "election_pairwise_counts", "names": list("abc"), "counts": counts, "ballots": 10})
    )
    np.testing.assert_allclose(payoffs_of(load(path)), [[0, 0.4, -0.3], [-0.4, 0, 0.2], [0.3, -0.2, 0]])


def test_duplicate_and_unwritable_names_stay_apart(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(preference_file(names=["bot", "bot"]))
    assert labels_of(load(path))[0] == ("bot", "bot (2)")
    path.write_text(preference_file(names=["\ud800", "y"]))
    assert labels_of(load(path))[0] == ("?", "y")


def test_the_game_says_which_names_were_given_more_than_once(tmp_path):
    fact = "names that are given more than once are told apart: 'bot' as 'bot (2)'"
    (tmp_path / "a.json").write_text(preference_file(names=["bot", "bot"]))
    (tmp_path / "a.csv").write_text("strategy,bot,bot \nbot,0,1\nx,1,0\n")
    (tmp_path / "a.nfg").write_text('NFG 1 R "t" { "Ann" "Bob" } { { "bot" "bot" } { "x" "y" } }\n1 -1 0 0 0 0 1 -1\n')
    (tmp_path / "a.toc").write_text(
        "# FILE NAME: a.toc\n# DATA TYPE: toc\n# NUMBER ALTERNATIVES: 2\n# NUMBER VOTERS: 3\n"
        "# NUMBER UNIQUE ORDERS: 1\n# ALTERNATIVE NAME 1: bot\n# ALTERNATIVE NAME 2: bot\n3: 1,2\n"
    )
    leaf = 't "" {} "" {{ {}, {} }}\n'
    (tmp_path / "a.efg").write_text(
        'EFG 2 R "t" { "Ann" "Bob" }\np "" 1 1 "bot" { "l" "r" } 0\n'
        'p "" 1 2 "bot" { "l" "r" } 0\n' + leaf.format(1, 1, -1) + leaf.format(2, 0, 0) + leaf.format(3, -1, 1)
    )
    for name in ("a.json", "a.csv", "a.nfg", "a.toc", "a.efg"):
        assert fact in load(tmp_path / name).description.facts, name


def test_fields_that_are_not_read_are_said_and_texts_are_notes(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(preference_file(n=2, date="2026", first=[1, 0], wins=[[0, 1], [1, 0]], seed=None))
    assert load(path).description.facts[1:] == ("fields not read: wins, seed",)
    path.write_text(preference_file(payoff=[[0, 5], [-5, 0]]))  # the kind says that the shares are meant
    assert load(path).description.facts[1:] == ("fields not read: payoff",)
    np.testing.assert_allclose(payoffs_of(load(path)), [[0, 0.2], [-0.2, 0]])


def test_broken_json_has_a_place(tmp_path):
    error = refused(tmp_path / "a.json", '{"kind": "payoff_matrix",\n "names": ["a" "b"]}')
    assert (error.line, error.column) == (2, 16)
    assert str(error) == f"{tmp_path / 'a.json'}:2:16: not JSON: Expecting ',' delimiter"
    error = refused(tmp_path / "a.json", codecs.BOM_UTF8 + b'{"kind":\n "\xff"}')
    assert (error.line, error.column, error.sentence) == (2, 3, "expected UTF-8 text, got another byte")


MALFORMED = [
    ("", "the file is empty"),
    (" \n", "the file is empty"),
    ("[1, 2]", "expected a JSON object"),
    ("[" * 100_000, "nested too deeply"),
    ('{"kind": ' + "1" * 5_000 + "}", "not readable as JSON"),
    (preference_file(kind="pairwise_preferences"), "got 'pairwise_preferences': try pairwise_preference"),
    (preference_file(kind=None), 'expected a known "kind" of game, got None'),
    (preference_file(kind=["x"]), 'expected a known "kind" of game'),
    (preference_file(names="xy"), 'expected "names" to be a list of strings'),
    (preference_file(names=["x", 2]), 'expected "names" to be a list of strings'),
    (preference_file(names=[]), 'expected "names" to be a list of strings'),
    (preference_file(n=3), 'expected "n" to be the number of names, 2, got 3'),
    (preference_file(n=True), 'expected "n" to be the number of names, 2, got True'),
    (
        preference_file(count=[[0, 3], [3, 0]]),
        "expected 'counts', got a field 'count', which files of kind pairwise_pref",
    ),
    (preference_file(Counts=[[0, 3], [3, 0]]), "expected 'counts', got a field 'Counts'"),
    (preference_file(**{"preference ": [[0.5, 0], [1, 0.5]]}), "expected 'preference', got a field 'preference '"),
    (
        preference_file(kind="pairwise_preference_by_judge", judges={"j": {"preferences": [[0.5, 0], [1, 0.5]]}}),
        "expected 'preference', got a field 'preferences', which a judge does not have",
    ),
    (preference_file(preference=None), "expected 'preference' to be a list of 2 rows, one a name"),
    (preference_file(preference=[[0.5, 0.5]]), "expected 'preference' to be a list of 2 rows"),
    (preference_file(preference=[[0.5, 0.7], [0.3]]), "expected a list of 2 numbers in row 2 of 'preference'"),
    (preference_file(preference=[[0.5, "0.7"], [0.3, 0.5]]), "expected a number in row 1, column 2 of 'preference'"),
    (preference_file(preference=[[0.5, True], [0.3, 0.5]]), "expected a number in row 1, column 2"),
    (
        preference_file(preference=[[0.5, 10**400], [0.3, 0.5]]),
        "at most 1.8e308 in size in row 1, column 2 of 'preference', got an integer of 401 digits",
    ),
    (
        preference_file(preference=[[0.5, 0.333333], [0.666666, 0.5]]),
        "off by 1e-06; if the numbers are rounded, allow it with #sum_tolerance=2e-06",
    ),
    (preference_file(preference=[[0.5, 1 / 3], [0.6, 0.5]]), "(row 1, column 2), off by 0.0667"),
    (preference_file(preference=[[0.5, 0.7], [0.4, 0.5]]), "got 0.7 + 0.4 for 'x' over 'y' (row 1, column 2)"),
    (preference_file(preference=[[0.5, None], [0.4, 0.5]]), "'x' and 'y' were never compared"),
    (preference_file(preference=[[0.5, None], [None, 0.5]]), "leave one of them out; try #subset=FIELD, a field of"),
    (preference_file(preference=[[0.5, None], [None, 0.5]], first=[0]), "leave one of them out; try #subset=first"),
    (
        preference_file(kind="pairwise_preference_by_judge", judges={"j": {"preference": [[0.5, None], [None, 0.5]]}}),
        "try #subset=FIELD",
    ),
    (preference_file(kind="payoff_matrix", payoff=[[0, float("nan")], [1, 0]]), "got nan in row 1, column 2"),
    (preference_file(kind="payoff_matrix", payoff=[[0, 1e999], [1, 0]]), "got inf in row 1, column 2"),
    (preference_file(kind="pairwise_preference_by_judge", judges=[]), 'expected "judges" to be an object'),
    (preference_file(kind="pairwise_preference_by_judge", judges={"j": {}}), "expected 'preference' to be a list"),
    (preference_file(kind="election_pairwise_counts", counts=[[0, 1], [2, 0]]), 'expected "ballots" to be'),
    (preference_file(kind="election_pairwise_counts", counts=[[0, 1], [2, 0]], ballots=0), 'expected "ballots" to be'),
    (preference_file(kind="election_pairwise_counts", counts=[[0, 1], [2, 0]], ballots=2), 'at most "ballots"'),
    (preference_file(kind="election_pairwise_counts", counts=[[0, -1], [2, 0]], ballots=9), "-1 in row 1, column 2"),
    (
        preference_file(kind="election_pairwise_counts", counts=[[0, 1], [None, 0]], ballots=9),
        "None in row 2, column 1",
    ),
    (
        preference_file(kind="election_pairwise_counts", counts=[[0, 1], [2, 0]], ballots=10**400),
        '"ballots" to be a pos',
    ),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_other_json_is_refused(tmp_path, content, message):
    assert message in str(refused(tmp_path / "a.json", content))


DUPLICATES = [  # text, line and column of the second key, and what is said of it
    (
        '{"kind": "payoff_matrix",\n "names": ["a"], "payoff": [[1]],\n  "payoff": [[2]]}',
        3,
        3,
        "'payoff' once in its object",
    ),
    ('{"names": ["}{", "\\"x\\": "], "a": [{"k": 1}, {"k": 2}],\n"n\\u0061mes": []}', 2, 1, "'names' once"),
    ('{"judges": {"j": {"preference": []}, "j": {"preference": [[1]]}}}', 1, 38, "'j' once"),
]


@pytest.mark.parametrize(("content", "line", "column", "message"), DUPLICATES)
def test_a_key_given_twice_is_refused_at_its_second_place(tmp_path, content, line, column, message):
    error = refused(tmp_path / "a.json", content)
    assert (error.line, error.column) == (line, column)
    assert message in error.sentence


def test_rounded_shares_are_read_with_a_tolerance(tmp_path):
    """.333333 over .666666 is the game of the margin (.333333 - .666666) / 2, whose winner has value 1/2."""
    path = tmp_path / "a.json"
    path.write_text(preference_file(preference=[[None, 0.333333], [0.666666, None]]))
    for spec in ("#sum_tolerance=2e-6", "#sum-tolerance=2e-6"):
        game = load(f"{path}{spec}")
        np.testing.assert_allclose(payoffs_of(game), [[0, -0.1666665], [0.1666665, 0]], rtol=0, atol=1e-15)
        assert game.description.facts == ("y beats every other: the Condorcet winner",)
    assert "off by 1e-06" in str(refused(path, options="#sum_tolerance=1e-7"))
    for wrong in ("x", "-1", "nan", "inf"):
        message = f"expected #sum_tolerance= and a number of at least 0, got {wrong!r}"
        assert message in str(refused(path, options=f"#sum_tolerance={wrong}"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.efg"])
def test_the_byte_order_mark_of_another_encoding_is_named(tmp_path, name, encoding):
    path = tmp_path / name
    path.write_bytes("\ufeff1,2".encode(encoding))
    with pytest.raises(GameFormatError) as error:
        load(path)
    assert (error.value.line, error.value.column) == (1, 1)
    assert f"the byte order mark of {encoding[:6].upper()}: save the file as UTF-8" in error.value.sentence


OPTIONS = [
    ("#judge=x", "#judge does not apply to files of kind pairwise_preference, try #subset"),
    ("#antisymmetrized", "#antisymmetrized does not apply to files of kind pairwise_preference"),
    ("#subset=halve", "no list of indices is called 'halve': try half"),
    ("#subset=twice", "no list of indices is called 'twice'"),
    ("#subset=outside", "no list of indices is called 'outside'"),
    ("#subset", "expected #subset=NAME, got #subset"),
    ("#subset=", "expected #subset=NAME, got #subset="),
    ("#subset=half#subset=half", "expected #subset once, got it twice"),
    ("#sum_tolerance", "expected #sum_tolerance=NUMBER, got #sum_tolerance"),
    ("#antisymmetrized=yes", "expected #antisymmetrized, got #antisymmetrized=yes"),
    ("#antisymetrized", "unknown option #antisymetrized: try antisymmetrized"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_that_do_not_fit_are_refused_by_name(tmp_path, options, message):
    content = preference_file(half=[1], twice=[0, 0], outside=[2])
    assert message in str(refused(tmp_path / "a.json", content, options))


# -------------------------------------------------------------------- CSV


finite = st.floats(-1e9, 1e9)
# Fewer letters before a sign of money, or before a few others, would make an amount or a missing number of the name.
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(
    "name{}".format
)


@settings(max_examples=60)
@given(data=st.data(), payoffs=arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=finite))
def test_csv_round_trip(tmp_path_factory, data, payoffs):
    """Any matrix, with or without names of rows and columns, is read back exactly; so is its .npy file."""
    header, first_column = data.draw(st.booleans()), data.draw(st.booleans())
    m, n = payoffs.shape
    stripped = st.lists(names.map(str.strip), min_size=5, max_size=5, unique=True)
    row_names, column_names = data.draw(stripped)[:m], data.draw(stripped)[:n]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])))
    if header:
        writer.writerow([*([""] if first_column else []), *column_names])
    for name, row in zip(row_names, payoffs.tolist(), strict=True):
        writer.writerow([*([name] if first_column else []), *map(repr, row)])
    folder = tmp_path_factory.mktemp("csv")
    path = folder / "game.csv"
    path.write_bytes(data.draw(st.sampled_from([b"", codecs.BOM_UTF8])) + text.getvalue().encode())
    counts_columns = not header and m == n + 1 and n > 1 and (np.diff(payoffs[0]) == 1).all()
    counts_rows = not first_column and n == m + 1 and m > 1 and (np.diff(payoffs[:, 0]) == 1).all()
    if not counts_columns and not counts_rows:
        game = load(path)
        np.testing.assert_allclose(payoffs_of(game), payoffs, rtol=1e-15, atol=0)
        rows, columns = labels_of(game)
        if header:
            assert columns == tuple(column_names)
        if first_column:
            assert rows == tuple(row_names)
        if header != first_column and m == n:
            assert rows == columns
    np.save(folder / "game.npy", payoffs)
    np.testing.assert_array_equal(payoffs_of(load(folder / "game.npy")), payoffs)


def test_csv_antisymmetrized(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("rock,paper\n1,4\n0,3\n")
    game = load(f"{path}#antisymmetrized")
    np.testing.assert_array_equal(payoffs_of(game), [[0, 2], [-2, 0]])
    assert labels_of(game) == (("rock", "paper"), ("rock", "paper"))
    assert "needs a square matrix, got 1 x 2" in str(refused(path, "1,2\n", "#antisymmetrized"))
    assert "#judge does not apply to .csv files, try #antisymmetrized" in str(refused(path, "1,2\n", "#judge=x"))


BAD_CSV = [
    ("1,2\n3\n", 2, 2, "expected 2 cells as in line 1, got 1"),
    ("1,2\n3,4,5\n", 2, 3, "expected 2 cells as in line 1, got 3"),
    ("1,2\n3,x\n", 2, 2, "expected a number, got 'x' (names fill the first row, the first column, or both)"),
    ("1,2\n\n3,\n", 3, 2, "expected a number, got an empty cell"),
    ("1,2\n3,nan\n", 2, 2, "expected a finite number, got 'nan'"),
    ("1,-inf\n3,4\n", 1, 2, "expected a finite number, got '-inf'"),
    ("1,1e999\n", 1, 2, "expected a finite number, got '1e999'"),
    ("1,n/a\n3,4\n", 1, 2, "expected a number, got 'n/a'"),
    ("a,n/a\nb,4\n", 1, 2, "expected a number, got 'n/a'"),
    ("gpt,7,llama\n0,1,2\n", 1, 1, "expected a number, got 'gpt'"),
    (",a,2024\na,0,1\nb,-1,0\n", 1, 3, "expected a name as in the rest of the row, got '2024'"),
    (",0,1\n0,3,-1\n1,-1,1\n", 1, 1, "expected a number, got an empty cell"),
    ("a,b\na,1\n3,4\n", 2, 1, "expected a number, got 'a'"),
    ("0,1\n3,-1\n-1,1\n", 1, 1, "the first row counts its columns"),
    ("1,2,3\n0,-1,3\n1,0,-1\n-3,1,0\n", 1, 1, "the first row counts its columns"),
    ("a,b\n", 2, 1, "expected rows of numbers below the header"),
    ("x,0,1\na,3,-1\nb,-1,1\n", 1, 2, "the first row counts its columns"),
    ("0,1,2\n1,3,4\n", 1, 1, "the first column counts its rows"),
    ("a,b,c\n1,-1,1\n2,1,-1\n", 2, 1, "the first column counts its rows"),
    ("\nindex,a\n\n0,5\n1,6\n2,7\n", 4, 1, "the first column counts its rows"),
    ("1,-1\n-1,1\n\n-1,2\n2,-1\n", 4, 1, "expected one table, but a blank row ends it above"),
    ("x;1,2\ny;3,4\n", 1, 1, "commas or semicolons may separate the cells: say which in a first line sep=, or sep=;"),
    ("x\t1,2\ny\t3,4\n", 1, 1, "commas or tabs may separate the cells"),
    ("5/2020,1\n1,1\n", 1, 1, "a date or a time"),
    (",a,b\n0,1,-1\n1,-1,1\n", 2, 1, "expected a name, as the cell above the first column is empty, got '0'"),
    (",a,b\na,1,-1\n,-1,1\n", 3, 1, "expected a name, as the cell above the first column is empty, got an empty cell"),
    ("5,a,b\nx,2,3\n", 1, 1, "expected names only or numbers only in a row, got '5' beside 'a' in column 2"),
    ("5,a,b\n1,2,3\n", 1, 1, "expected names only or numbers only in a row, got '5' beside 'a' in column 2"),
    ("1,abc\n3,4\n", 1, 1, "expected names only or numbers only in a row, got '1' beside 'abc' in column 2"),
    ("$1,$2\n3,1\n", 1, 1, "got '$1', an amount of money"),
    ('"0,5","0,2"\n1,2\n0,3\n', 1, 1, "got '0,5', a number with a comma"),
    ("1,#DIV/0!\n-1,1\n", 1, 2, "got '#DIV/0!', an error value"),
    ("#N/A,#N/A\n-1,1\n", 1, 1, "got '#N/A', an error value"),
    ("# rock, paper\n1,2\n3,4\n", 1, 1, "got '# rock', a comment, which holds no names"),
    ("# written by hand\n1,2\n3,4\n", 1, 1, "a comment"),
    ("Title\n1,2\n3,4\n", 1, 2, "expected 2 cells as in line 2, got 1"),
    (",Na,K\nNa,0,1\nK,-1,0\n", 1, 2, "got 'Na', a word for a missing number, which makes no name"),
    ("K,0\nNa,1\n", 2, 1, "got 'Na', a word for a missing number"),
    ("rock,Inf\n1,2\n", 1, 2, "expected a finite number, got 'Inf'"),
    (",a,b\na,,7\nb,3,\n", 2, 2, "got an empty cell (shares or counts of comparisons have a format of their own"),
    ("winner,loser,n\na,b,7\nb,a,3\n", 2, 2, "comparisons have a first row that says so, such as a,b,wins_a,wins_b)"),
    ("0,5;0,2\n1,5;2,5\n", 1, 2, "say so in a first line sep=;, and write decimals with a point, as 0.5"),
    ("1 2\n3 4\n", 1, 1, "if spaces separate the cells, put commas in their place"),
    ("sep=;\n1;2\n3;x\n", 3, 2, "got 'x'"),
    ("sep=;\n0,5;1\n", 2, 1, "got '0,5', a number with a comma"),
    ("sep=ab\n1,2\n", 1, 5, "got 'ab'"),
    ("sep=;\n", None, None, "the file is empty"),
    ('"a\nb",c\n\n"1\n",x\n', 4, 2, "got 'x'"),
    ('1,"2\n3,4\n', 2, None, "not CSV: unexpected end of data"),
]


@pytest.mark.parametrize(("content", "line", "column", "message"), BAD_CSV)
def test_bad_csv_is_refused_with_its_place(tmp_path, content, line, column, message):
    error = refused(tmp_path / "a.csv", content)
    assert (error.line, error.column) == (line, column)
    assert message in error.sentence


def test_a_range_that_float64_cannot_hold_is_refused_without_a_warning(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("1e308,-1e308\n-1e308,1e308\n")
    with pytest.raises(mmd.GameError, match="whose range float64 can hold: scale them down"):
        mmd.solve(load(str(tmp_path / "a.csv")))


PENNIES, NUMBERS = [[1, -1], [-1, 1]], (("0", "1"), ("0", "1"))
READ_CSV = [  # ending, content, payoffs and labels
    ("csv", "1,\u22121\n\u22121,1\n", PENNIES, NUMBERS),
    ("csv", "1/2,-1/2\n-1,1\n", [[0.5, -0.5], [-1, 1]], NUMBERS),
    ("csv", "100%,-100 %\n-12.5%,1\n", [[1, -1], [-0.125, 1]], NUMBERS),
    ("csv", "\uff11,\uff0d\uff11\n\u20131,+1\n", PENNIES, NUMBERS),
    ("csv", '1, "-1"\n "-1", 1\n', PENNIES, NUMBERS),
    ("csv", "\ufeff\ufeff1,-1\n-1,1\n", PENNIES, NUMBERS),
    ("csv", "sep=;\r\n1;-1\r\n-1;1\r\n", PENNIES, NUMBERS),
    ("csv", '"sep=|"\n1|-1\n-1|1\n', PENNIES, NUMBERS),
    ("csv", "sep=\t\n1\t-1\n-1\t1\n", PENNIES, NUMBERS),
    ("csv", "SEP=,\n1,-1\n-1,1\n", PENNIES, NUMBERS),
    ("csv", "1;-1\n-1;1\n", PENNIES, NUMBERS),
    ("csv", "a\tb\n1\t-1\n-1\t1\n", PENNIES, (("a", "b"), ("a", "b"))),
    ("csv", "2-opt,3-SAT\n1,2\n", [[1, 2]], (("0",), ("2-opt", "3-SAT"))),
    ("csv", "x;y\n1\n2\n", [[1], [2]], (("0", "1"), ("x;y",))),
    ("tsv", "1\t-1\n-1\t1\n", PENNIES, NUMBERS),
    ("tsv", "\ta,b\tc\nx\t1\t-1\ny\t-1\t1\n", PENNIES, (("x", "y"), ("a,b", "c"))),
]


@pytest.mark.parametrize(("ending", "content", "payoffs", "labels"), READ_CSV)
def test_what_is_certain_is_read(tmp_path, ending, content, payoffs, labels):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content.encode())
    game = load(path)
    np.testing.assert_allclose(payoffs_of(game), payoffs, rtol=0, atol=1e-15)
    assert labels_of(game) == labels


@pytest.mark.parametrize("content", [b"", b"\n \n", codecs.BOM_UTF8, b'""\n'])
def test_empty_csv_is_refused(tmp_path, content):
    assert refused(tmp_path / "a.csv", content).sentence == "the file is empty"


# -------------------------------------------------------------------- NumPy


def saved(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.eye(2))
    return buffer.getvalue()


# A header that promises 8 * 10^24 bytes.
HUGE = saved(np.zeros((2, 2))).replace(b"(2, 2), }" + b" " * 24, b"(" + b"9" * 12 + b", " + b"9" * 12 + b"), }")

BAD_NPY = [
    (b"", "the file is empty"),
    (b"not an array", "not a NumPy array of numbers"),
    (saved(np.eye(3))[:-8], "not a NumPy array of numbers"),
    (saved(np.array([[None]]), pickled=True), "not a NumPy array of numbers"),
    (HUGE, "not a NumPy array of numbers"),
    (archive(), "expected an array of real numbers, got an archive"),
    (saved(np.array([["a"]])), "expected an array of real numbers, got <U1"),
    (saved(np.eye(2) * 1j), "expected an array of real numbers, got complex128"),
    (saved(np.arange(3.0)), "expected a non-empty matrix, got an array of shape (3,)"),
    (saved(np.array([[1.0, np.nan]])), "got nan in row 1, column 2"),
    (saved(np.array([["1"]])), "expected an array of real numbers, got <U1"),
    (saved(np.array([[1]], "M8[D]")), "expected an array of real numbers, got datetime64"),
    (saved(np.eye(2)) + saved(np.eye(2)), "expected one array, but the file goes on after it"),
]


@pytest.mark.parametrize(("content", "message"), BAD_NPY)
def test_bad_npy_is_refused(tmp_path, content, message):
    assert message in str(refused(tmp_path / "a.npy", content))


def test_the_huge_header_is_one():
    assert b"999999999999, 999999999999" in HUGE


@pytest.mark.parametrize("suffix", ["json", "csv", "npy"])
@settings(max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_game_or_a_readable_error(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("fuzz") / f"a.{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(GameFormatError):
        assert np.isfinite(payoffs_of(load(path))).all()
