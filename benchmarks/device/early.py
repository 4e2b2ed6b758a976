"""What a compiler for TPUs has decided, as soon as it has: its process is ended then, minutes before it would be done.

After some ten seconds XLA knows the final program and where each array lies. What follows, code for each operation,
changes neither.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Container
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax

from llm_bridge.plan.compiled import reported, to_report

DIGEST, REFUSED = "digest", "refused"  # files that the process leaves
TEXT = "*after_optimizations_after_buffer_assignment.txt"


class Decided(NamedTuple):
    """Of a program.

    Attributes:
        digest: hash of it as it was lowered, with what is said of where.
        held: bytes on each chip; None where the digest is known, or where there are none.
        text: of the final program, or nothing.
        refused: the first line of why, or nothing.
    """

    digest: str
    held: int | None
    text: str
    refused: str


def decided(make: Callable[..., tuple[str, Any]], given: tuple[Any, ...], known: Container[str]) -> Decided:
    """What the compiler decides of a program.

    Args:
        make: gives where it runs and the program, lowered; called in another process.
        given: its arguments.
        known: digests of which nothing is asked.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = get_context("spawn").Process(target=_compile, args=(make, given, folder))
        process.start()
        digest = Path(folder) / DIGEST
        while process.is_alive() and not (digest.exists() and digest.read_text() in known):
            if reported(folder) is not None and _text(folder):
                break
            time.sleep(1)
        process.kill()
        process.join()
        refused = Path(folder) / REFUSED
        why = refused.read_text() if refused.exists() else ""
        return Decided(digest.read_text(), reported(folder), _text(folder), why)


def _text(folder: str) -> str:
    """The program that is written, once all of it is."""
    texts = [path.read_text("utf-8").rstrip() for path in Path(folder).glob(TEXT)]
    return next((text for text in texts if "\nENTRY " in text and text.endswith("\n}")), "")


def _compile(make: Callable[..., tuple[str, Any]], given: tuple[Any, ...], folder: str) -> None:
    where, lowered = make(*given)
    Path(folder, DIGEST).write_text(hashlib.sha256(f"{where}{lowered.as_text()}".encode()).hexdigest()[:16])
    try:
        lowered.compile(compiler_options=to_report(folder))
    except jax.errors.JaxRuntimeError as error:
        Path(folder, REFUSED).write_text(str(error).partition("\n")[0])
