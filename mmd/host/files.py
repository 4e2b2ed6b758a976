"""Output files: checked before the work starts, replaced as a whole when it is done.

A run that took an hour must not fail at its last line because a folder is read-only, and a reader must never see half a
file: `prepare_folder` and `prepare_file` try the place first, `replacing` writes beside the target and renames, and
`discard_parts` clears away what a process that was killed in between has left.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard


class OutputError(ValueError):
    """A place where results should go cannot be written; the message says which and why."""


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether what a JSON file holds is a number that a float64 can be; true, NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder (with its parents) and try to write in it.

    Raises:
        OutputError: it cannot be created, is no folder, or is not writable.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise OutputError(f"{path}: expected a folder to write to, got a file") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot write to this folder ({error.strerror})") from None
    return path


def prepare_file(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Create the folder of a file to be written, and try to write in it.

    Args:
        path: the file.
        suffixes: the endings that can be written, such as ".png".

    Raises:
        OutputError: the ending is none of these, the path is a folder, or its folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{path}: expected a file name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise OutputError(f"{path}: expected a file to write, got a folder")
    prepare_folder(path.parent)
    return path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` at the end, unless an exception is raised."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def discard_parts(path: str | os.PathLike[str]) -> None:
    """Remove what `replacing(path)` left in processes that were killed."""
    path = Path(path)
    for part in path.parent.iterdir():
        if part.name.startswith(f".{path.name}.") and part.name.endswith(".part"):
            part.unlink(missing_ok=True)
