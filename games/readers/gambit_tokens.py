"""The tokens of Gambit's game files: quoted texts, braces, and words (numbers among them).

White space and commas separate tokens and mean nothing else. A text may span lines; in it a backslash goes before a
quotation mark or another backslash. Every refusal carries the line and column of the token, counted from 1.
"""

import math
import re

from games.readers.source import GameFormatError

MAX_NUMBER = 1e100  # sums of payoffs along any path stay finite

# Possessive quantifiers (++, *+) never go back over what they matched: every match is linear in its length.
END, TEXT, BRACE, WORD = 0, 1, 2, 3  # kinds of token; the groups of TOKEN
TOKEN = re.compile(r'[\s,]*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([{}])|([^\s{},"]++))', re.DOTALL)
SEPARATOR = re.compile(r"[\s,]*+")
ESCAPE = re.compile(r'\\(["\\])')
INTEGER = re.compile(r"[0-9]{1,18}")
DECIMAL = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
FRACTION = re.compile(r"[+-]?[0-9]++/[0-9]++")


class Tokens:
    """The tokens of a file, one at a time; every method that takes one refuses any other, with its place.

    Attributes:
        kind, value: of the current token; a text is without its quotes.
        source: all of it.
    """

    def __init__(self, text: str, path: str) -> None:
        self.source, self._path, self._end = text, path, 0
        self.kind, self.value = END, ""
        self.step()

    def step(self) -> str:
        """Go on to the next token; returns the value of the one that is passed."""
        passed = self.value
        self._match = match = TOKEN.match(self.source, self._end)
        if match is None or match.lastindex is None:
            self._check_all_read()
            self.kind, self.value = END, ""
        else:
            self.kind = match.lastindex
            self.value = match[self.kind]
            self._end = match.end()
        return passed

    @property
    def start(self) -> int:
        """Where the current token starts; the end of the file is right after its last token."""
        return self._end if self._match is None else self._match.start(self.kind) - (self.kind == TEXT)

    def at(self, brace: str) -> bool:
        """Whether the current token is this brace."""
        return self.kind == BRACE and self.value == brace

    def error(self, sentence: str, start: int | None = None) -> GameFormatError:
        """An error at the current token, or at another place in the text."""
        start = self.start if start is None else start
        line = self.source.count("\n", 0, start) + 1
        return GameFormatError(self._path, line, start - self.source.rfind("\n", 0, start), sentence)

    def unexpected(self, what: str) -> GameFormatError:
        """The error of finding something else than `what`."""
        shown = repr(self.value if len(self.value) <= 40 else self.value[:37] + "...")
        found = {END: "the end of the file", TEXT: f"the text {shown}"}.get(self.kind, shown)
        return self.error(f"expected {what}, got {found}")

    def _check_all_read(self) -> None:
        """Where no token is left, only separators may be."""
        rest = SEPARATOR.match(self.source, self._end)
        if rest is not None and rest.end() < len(self.source):
            sentence = "expected the quotation mark that closes this text, got the end of the file"
            raise self.error(sentence, rest.end())

    def keyword(self, magic: str, version: str, what: str) -> None:
        """Pass the words that open a file; D in place of R is an old spelling without a meaning."""
        for words in ((magic,), (version,), ("R", "D")):
            if self.kind != WORD or self.value not in words:
                raise self.unexpected(f"{words[0]!r} ({what} starts with {magic} {version} R)")
            self.step()

    def text(self, what: str) -> str:
        """Pass a quoted text and return it without escapes."""
        if self.kind != TEXT:
            raise self.unexpected(f"{what} in quotation marks")
        value = self.step()
        return ESCAPE.sub(r"\1", value) if "\\" in value else value

    def skip_text(self) -> str:
        """Pass an optional text; empty if there is none."""
        return self.text("") if self.kind == TEXT else ""

    def brace(self, brace: str, what: str) -> None:
        """Pass a brace."""
        if not self.at(brace):
            raise self.unexpected(what)
        self.step()

    def names(self, of: str) -> tuple[str, ...]:
        """Pass a list of one or more texts in braces."""
        self.brace("{", f"'{{' and the names of the {of}")
        names = [self.text(f"a name for one of the {of}")]
        while self.kind == TEXT:
            names.append(self.text(""))
        self.brace("}", f"another name for one of the {of}, or '}}'")
        return tuple(names)

    def integer(self, what: str, low: int, high: int = 10**18) -> int:
        """Pass a whole number of at most 18 digits, from `low` to `high`."""
        if self.kind != WORD or not INTEGER.fullmatch(self.value) or not low <= int(self.value) <= high:
            raise self.unexpected(what)
        return int(self.step())

    def number(self, what: str) -> float:
        """Pass a decimal or a fraction."""
        value = math.nan
        if self.kind == WORD and DECIMAL.fullmatch(self.value):
            value = float(self.value)
        elif self.kind == WORD and FRACTION.fullmatch(self.value):
            numerator, denominator = self.value.split("/")
            try:
                value = int(numerator) / int(denominator)
            except (ZeroDivisionError, OverflowError, ValueError):  # the last: more digits than Python converts
                raise self.unexpected(f"{what}, a fraction with a finite value") from None
        else:
            raise self.unexpected(f"{what}, a number like 3, -0.25 or 1/3")
        if abs(value) > MAX_NUMBER:
            raise self.unexpected(f"{what}, at most {MAX_NUMBER:g} in size")
        self.step()
        return value

    def payoffs(self, n_players: int) -> list[float]:
        """Pass one payoff for each player and the brace that closes their list."""
        values = [self.number(f"payoff {i} of {n_players}") for i in range(1, n_players + 1)]
        self.brace("}", f"'}}' after {n_players} payoffs")
        return values

    def finish(self, complete: str) -> None:
        """Insist on the end of the file."""
        if self.kind != END:
            raise self.unexpected(f"the end of the file, as {complete}")
