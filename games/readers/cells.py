"""Cells: what the text of a cell of a table says: a number, a name, or something that is refused.

A cell made of digits and signs is never a name: it is read as a number, or refused. Read are decimals (`-0.5`, `1e-3`),
fractions (`1/3`) and percents (`12.5%`), with any of the minus signs that text programs write, and in full-width
characters. Refused are cells that people read as different numbers, or not as one (`0,5`, `1_000`, `$5`, `0x1F`,
`3-Jan`, `5 kg`), error values of spreadsheets, and words for a missing number. A name has a letter or a picture in it.
"""

import re
import unicodedata

# As minus: hyphen, non-breaking hyphen, figure dash, en dash, minus sign, and the small and the full-width hyphen.
WRITTEN = {
    "-": "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d",
    "+": "\uff0b",
    ".": "\uff0e",
    "%": "\ufe6a\uff05",
    "/": "\u2044\u2215\uff0f",
}
SIGNS = str.maketrans({sign: plain for plain, signs in WRITTEN.items() for sign in signs})
DECIMAL = re.compile(r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?")
SHORT = re.compile(r"-?[0-9]{1,25}(?:\.[0-9]{1,25})?(?:e[+-][0-9]{2})?")  # finite for certain
PERCENT = re.compile(r"([+-]?(?:\d++\.?\d*+|\.\d++))\s*+%")
FRACTION = re.compile(r"([+-]?(?:0|[1-9][0-9]*+))\s*+/\s*+([1-9][0-9]*+)")  # 01/02 is more of a date
MONTH_OF_A_YEAR = re.compile(r"(?:[1-9]|1[0-2])/(?:19|20)\d\d")  # write such a fraction as a decimal
NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)\s*%?", re.IGNORECASE)

CURRENCY = "[$\u00a2-\u00a5\u058f\u060b\u0e3f\u20a0-\u20cf\ufe69\uff04\uffe0\uffe1\uffe5\uffe6]"
CODES = "usd|eur|gbp|jpy|cny|rmb|inr|chf|sek|nok|dkk|cad|aud|nzd|krw|brl|rub|zar|mxn|pln|czk|huf|try|sgd|hkd|kr|rs|fr"
BEFORE = "[-+(~<>\u2248\u2264\u2265\u00b1'\"\\s]"  # signs before a number, approximate ones among them
MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?|mär|mrz|mai|okt|dez|fév|avr|aoû|déc"
)
LOOKALIKES = {  # what a cell is that looks like a number, or stands for none -> how it is written
    "a word for a missing number, which makes no name": (r"n\.?a\.?", "n/a", "<na>", "null", "none", r"[+-]?nan\(.*\)"),
    "a truth value, which makes no name": ("true", "false"),
    "an error value": (r"#[^\s#]+[!?]", "#n/a.*", "#+", r"err:\d+", r"[+-]?\d+\.#.*"),
    "a comment, which holds no names": (r"(?:#|%|//).*[^\W\d].*",),
    "a formula": ("=.*",),
    "a number in another base": ("[+-]?0[xob][0-9a-f_.p+-]*+", "&[hob][0-9a-f]++"),
    "a division by zero": (r"[+-]?\d+\s*/\s*0+",),
    "a date or a time": (
        r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*",
        r"\d{1,2}:\d\d.*",
        r"0\d/\d+|\d+/0\d+",
        MONTH_OF_A_YEAR.pattern,
        rf"\d{{1,4}}[-/., ]*(?:{MONTHS})[-/., ]*\d*",
        rf"(?:{MONTHS})[-/., ]+\d[\d/., -]*",
    ),
    "an amount of money": (
        rf"[^\W\d_]{{0,3}}[-+(. ]*{CURRENCY}.*\d.*",
        rf"[-+(. ]*\d.*{CURRENCY}.*",
        rf"[-+(]*(?:{CODES})[. ]*[-+]?\d[\d.,' ]*",
    ),
    "a number with a comma or a separator of thousands (write 0.5, 1000)": (
        r"[-+(]*\d[\d.'\u2019\s]*,[\d.,'\u2019\s]*(?:e[-+]?\d+)?[)%\s]*",
        r"[-+(]*\d{1,3}(?:['\u2019_\s]\d{3})+(?:\.\d*)?\)?",
    ),
    "a number with a unit": (rf"{BEFORE}*+\.?\d[\d\s.,:/'()+*^%-]*+(?<!-)(?:[^\W\d_]|°)++\.?\)?",),
    "a number with more behind it": (r"\d[0-9a-f]*+h?", r"[-+(\s]*\d+[.,]\d.*", r"[-+]\s*[\d.].*", r"\d+[ed][-+].*"),
}
PATTERNS = {
    what: re.compile("|".join(f"(?:{form})" for form in forms), re.IGNORECASE | re.DOTALL)
    for what, forms in LOOKALIKES.items()
}
SHOWN = 40  # characters of a cell in a message


def read_cell(cell: str) -> float | str:
    """The number or the name in a cell; "" if it is blank.

    Raises:
        ValueError: with a sentence that quotes the cell, if it is neither.
    """
    if SHORT.fullmatch(cell):  # most cells of a large table
        return float(cell)
    text = cell if cell.isascii() else "".join(c for c in cell if unicodedata.category(c) != "Cf").translate(SIGNS)
    text = text.strip()
    if not text:
        return ""
    number = _number(text)
    if number is not None:
        return number
    shown = repr(cell[:SHOWN])
    for what, pattern in PATTERNS.items():
        if pattern.fullmatch(text):
            raise ValueError(f"expected a number, got {shown}, {what}")
    if not any(unicodedata.category(c)[0] == "L" or unicodedata.category(c) == "So" for c in text):
        raise ValueError(f"expected a number, got {shown} (a name has a letter in it)")
    return cell.replace("\ufeff", "").strip()


def _number(text: str) -> float | None:
    """The float64 nearest to a decimal, a fraction or a percentage; None for any other text.

    Raises:
        ValueError: the number is not finite.
    """
    value = None
    if DECIMAL.fullmatch(text):
        value = float(text)
    elif NOT_FINITE.fullmatch(text):
        value = float("nan")
    elif percent := PERCENT.fullmatch(text):
        value = float(f"{percent[1]}e-2")
    elif (fraction := FRACTION.fullmatch(text)) and not MONTH_OF_A_YEAR.fullmatch(text):
        try:
            value = int(fraction[1]) / int(fraction[2])
        except (OverflowError, ValueError):  # the latter: more digits than Python converts
            value = float("inf")
    if value is not None and not abs(value) < float("inf"):
        raise ValueError(f"expected a finite number, got {text[:SHOWN]!r}")
    return value
