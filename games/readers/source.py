"""Source: the bytes and the text of a file of data, and the error that names a place in it."""

import codecs
import os
from pathlib import Path

from mmd.game.game import GameError

WIDE = (  # of these the first is a prefix of the third
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class GameFormatError(GameError):
    """A file that is not what its format says; reads `path:line:column: sentence`.

    Attributes:
        path: the file.
        line, column: where, from 1; None where there is no such place.
        sentence: what is wrong, and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], line: int | None, column: int | None, sentence: str) -> None:
        super().__init__(path, line, column, sentence)
        self.path, self.line, self.column, self.sentence = os.fspath(path), line, column, sentence

    def __str__(self) -> str:
        place = [self.path, *(str(at) for at in (self.line, self.column) if at is not None)]
        return f"{':'.join(place)}: {self.sentence}"


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        GameFormatError: no such file, a directory, unreadable, or empty.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise GameFormatError(path, None, None, "there is no such file") from None
    except IsADirectoryError:
        raise GameFormatError(path, None, None, "expected a file, got a directory") from None
    except OSError as error:
        raise GameFormatError(path, None, None, f"the file cannot be read: {error.strerror}") from None
    if not content.strip():
        raise GameFormatError(path, 1, 1, "the file is empty")
    return content


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, without its byte order mark.

    Raises:
        GameFormatError: as `read_bytes`, or not UTF-8.
    """
    content = read_bytes(path)
    for mark, encoding in WIDE:
        if content.startswith(mark):
            sentence = f"expected UTF-8 text, got the byte order mark of {encoding}: save the file as UTF-8"
            raise GameFormatError(path, 1, 1, sentence)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = error.object[: error.start].decode().split("\n")
        raise GameFormatError(path, len(lines), len(lines[-1]) + 1, "expected UTF-8 text, got another byte") from None
