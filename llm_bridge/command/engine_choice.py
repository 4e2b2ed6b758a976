"""Which engine the options of `mpo train` mean."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import jax

from llm_bridge.command.options import Train
from llm_bridge.run.termination import Termination
from llm_bridge.train.http_engine import HttpEngine
from llm_bridge.train.loop import Method
from mmd.host.command_line import UsageError
from mmd.host.files import prepare_folder
from mmd.host.folder_lock import held

FOLDER = "engine"  # in the run's directory
OF_ENGINES = ("engine_model", "engine_folder", "engine_key_variable", "max_staleness")


def with_engine(method: Method, options: Train, termination: Termination, place: Path) -> Method:
    """The method with the engine that the options name, if they do; nothing is asked yet.

    Args:
        method: of the run.
        options: of the run.
        termination: the run may end while an engine is waited for, where no other process is.
        place: the run's directory, absolute.

    Raises:
        BridgeError: the address is none, or the method has nothing for an engine to do.
        UsageError: an option about an engine comes without one.
    """
    if options.engine is None:
        if idle := [name for name in OF_ENGINES if getattr(options, name)]:
            flag = f"--{idle[0].replace('_', '-')}"
            raise UsageError(f"{flag} is for an engine, expected --engine http(s)://host/v1 with it")
        return method
    engine = HttpEngine(
        options.engine,
        options.engine_folder or place / FOLDER,
        options.engine_model,
        options.max_staleness,
        options.engine_key_variable,
        timeout=options.engine_timeout,
        tell=lambda text: sys.stderr.write(f"mpo: {text}\n"),
        guard=termination.at_once if jax.process_count() == 1 else nullcontext,
    )
    method = replace(method, engine=engine)
    method.check_settings()
    return method


@contextmanager
def closing(method: Method) -> Iterator[None]:
    """After the block nothing is left of what the method's engine was given; no other run has its folder meanwhile.

    Raises:
        OutputError: another run has it, or it cannot be written.
    """
    if not isinstance(method.engine, HttpEngine):
        yield
        return
    first = jax.process_index() == 0
    if first:
        prepare_folder(method.engine.folder)
    with held(method.engine.folder if first else None, "mpo"):
        try:
            yield
        finally:
            method.engine.close()
