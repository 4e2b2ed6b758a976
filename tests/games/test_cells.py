"""What the text of a cell is: a number, a name, or neither; nothing made of digits and signs is a name."""

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from games.readers.cells import read_cell

NUMBERS = [
    ("1", 1),
    ("-0.25", -0.25),
    ("+.5", 0.5),
    ("5.", 5),
    ("1e-3", 1e-3),
    ("007", 7),
    ("\u22121", -1),
    ("\u20133", -3),
    ("\uff0d\uff12", -2),
    ("\u200e-1", -1),
    ("\ufeff3", 3),
    ("\u06633", 33),
    ("1/3", 1 / 3),
    (" -1 / 4 ", -0.25),
    ("3\u20444", 0.75),
    ("12.5%", 0.125),
    ("-50 %", -0.5),
    ("0.1%", 0.001),
]


@pytest.mark.parametrize(("cell", "value"), NUMBERS)
def test_numbers(cell, value):
    assert read_cell(cell) == value


NAMES = [
    *("rock", "gpt-4", "gpt-3.5-turbo", "a1", "2-opt", "3-SAT", "5-card draw", "1st place", "Begich, Nick", "Mark 5"),
    *("May", "mario 64", "decoder 1", "dec1", "C++", "x=1", "E5", "FF", "Nat", "\u270a", "Zo\u00eb \u7b56", "\u4e00"),
]


@pytest.mark.parametrize("cell", NAMES)
def test_names(cell):
    assert read_cell(f"\ufeff {cell} ") == cell


NEITHER = {  # what is said -> cells
    "a number with a comma": (
        "0,5",
        "-0,5",
        "1,000",
        "1.000,5",
        "1,5e3",
        "1'000",
        "1 000",
        "1\u00a0000",
        "1_000",
        "5,1%",
    ),
    "an amount of money": ("$5", "-$5", "5\u20ac", "\u20ac -5", "R$5", "US$ 5", "USD 5", "kr 5", "Fr. 5.50", "\uff045"),
    "a number in another base": ("0x1F", "0XFF", "-0x1", "0b101", "0o17", "&H1F", "0x1.8p3"),
    "a date or a time": ("2024-01-02", "1/2/2024", "01.02.2024", "3-Jan", "Jan-3", "March 2024", "12:30", "10:30 pm"),
    "a date": ("2024-01-02T10:00Z", "01/02", "1/02", "4. Mai", "1.5.24"),
    "an error value": ("#DIV/0!", "#N/A", "#NAME?", "#WERT!", "#N/A N/A", "####", "Err:502", "1.#INF", "-1.#IND"),
    "a comment": ("# rock", "#rock", "% rock", "// rock"),
    "a formula": ("=A1", "=1/2"),
    "a division by zero": ("1/0", "-3 / 00"),
    "a number with a unit": ("5 kg", "5kg", "7B", "1.5M", "5 EUR", "1e", "1+2j", "~5k", "5\u00b0", "(3 x)"),
    "a number with more behind it": ("1.5D+03", "1.2 [best]", "-5-x", "1e+", "1F3"),
    "a word for a missing number": ("NA", "Na", "n/a", "N.A.", "null", "None", "<NA>", "nan(ind)"),
    "a truth value": ("TRUE", "false"),
    "a separator of thousands": ("1_000", "-12 000.5"),
    "expected a finite number": ("nan", "NaN", "inf", "-Infinity", "1e999", "-1e999", "inf%", "1" * 400),
    "a name has a letter in it": ("-", "?", "...", "\u2014", "--1", "1-", "(1)", "1 1/2", "1*", "<5", "1|2", "1;2"),
    "(a name has a letter": ("5\u2030", "\u221e", "\u00bd", "\u2460", "\u2163", "1\u20132", "'1", '"1"', "1\x00"),
    "expected a number": ("1\u00bd", "2\u00b2", "1.5/2"),
}


@pytest.mark.parametrize(("cell", "what"), [(cell, what) for what, cells in NEITHER.items() for cell in cells])
def test_what_people_read_differently_is_refused(cell, what):
    with pytest.raises(ValueError, match=r"^expected a (finite )?number, got") as refusal:
        read_cell(cell)
    assert what in str(refusal.value)


@given(st.text("0123456789.,+-/%' ()$\u20ac\u2212\u00bd\u221e*^_:;#\u00b1", min_size=1))
def test_digits_and_signs_are_never_a_name(cell):
    with contextlib.suppress(ValueError):
        assert isinstance(read_cell(cell), float) or not cell.strip()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_writes_is_read_back(value):
    np.testing.assert_array_equal(read_cell(repr(value)), value)
    np.testing.assert_array_equal(read_cell(f"{value!r}".replace("-", "\u2212")), value)


HOSTILE = [
    "-" * 10**5 + "a",
    "1.," * 30_000 + "a1",
    "(" * 10**5 + "a",
    "1f1" * 30_000 + "z",
    "1" + " 111" * 30_000 + "x",
]


@pytest.mark.parametrize("cell", HOSTILE, ids=lambda cell: cell[:4])
def test_time_is_linear_in_the_length_of_a_cell(cell):
    start = time.process_time()
    with contextlib.suppress(ValueError):
        read_cell(cell)
    assert time.process_time() - start < 2
