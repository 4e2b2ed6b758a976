"""What a compiled program takes of a chip's memory, as its compiler counts it."""

import re
import tempfile
from pathlib import Path
from typing import Any

from mmd.host.jax_cache import without_jax_cache

TOTAL = re.compile(r"Memory Space: default \(color=0\)\s+Total bytes: (\d+)")


def compiled_with_bytes(lowered: Any) -> tuple[Any, int]:
    """A program, compiled, and its bytes on each device: arguments, results, and what is there in passing.

    The compiler writes a report of memory; its total is what it compares with a chip before it refuses a program.
    `memory_analysis` says more on TPUs, because gaps between arrays count twice in its temporary bytes. A program that
    is read from JAX's cache has no report, so it is compiled.

    Args:
        lowered: as `jax.stages.Lowered`.

    Raises:
        jax.errors.JaxRuntimeError: the compiler refuses the program.
    """
    with tempfile.TemporaryDirectory() as folder, without_jax_cache():
        program = lowered.compile(compiler_options=to_report(folder))
        held = reported(folder)
    if held is None:  # by a compiler that writes none
        memory = program.memory_analysis()
        held = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        held += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return program, held


def to_report(folder: str) -> dict[str, Any]:
    """What a compiler is asked for, so that its report comes into a folder."""
    return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}


def reported(folder: str) -> int | None:
    """Bytes on each device by the report in a folder; None where there is none yet."""
    for path in Path(folder).glob("*memory-usage-report.txt"):
        if found := TOTAL.search(path.read_text("utf-8")):
            return int(found[1])
    return None
