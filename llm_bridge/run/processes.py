"""Several processes that run the same command, one on each host: they decide alike, whatever only one of them knows.

Each process draws the same responses and makes the same update, on its own shards. What could differ is agreed upon.
The first process asks the judge and the others are told the answers, so a service is asked once and an answer that is
drawn at random is the same for all. A signal to any process stops all of them after the same round.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from llm_bridge.judges import answers_of, dry_run, keyed, name_of
from llm_bridge.model.architecture import BridgeError
from llm_bridge.run.termination import Terminated, Termination

FINE, FAILED = 0, -1  # what goes with the answers; a positive number is a signal's
FAILED_THERE = "the judge of the first process has failed; what it says stands there"
LOST = re.compile(r"^(UNKNOWN|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED)\b|\b(Gloo|NCCL)\b")
COUNT, INDEX = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def begin() -> None:
    """Join the others, before anything touches a device.

    Where JAX knows the cluster (Cloud TPU, Slurm, Kubernetes, Open MPI) it finds them by itself. Elsewhere each process
    has `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` in its environment.

    Raises:
        BridgeError: they cannot be joined.
    """
    try:
        numbers = {name: int(os.environ[name]) if name in os.environ else None for name in (COUNT, INDEX)}
        jax.distributed.initialize(num_processes=numbers[COUNT], process_id=numbers[INDEX])
    except (ValueError, RuntimeError) as error:
        sentence = str(error).partition("\n")[0]
        wanted = f"a cluster that JAX knows, or JAX_COORDINATOR_ADDRESS, {COUNT} and {INDEX}"
        raise BridgeError(f"cannot join the other processes, expected {wanted} ({sentence})") from None


@contextmanager
def connected() -> Iterator[None]:
    """Say in a sentence that another process is gone; JAX has no error of its own for that.

    Raises:
        BridgeError: what was awaited from another process has not come.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        sentence = str(error).partition("\n")[0]
        if jax.process_count() == 1 or not LOST.search(sentence):
            raise
        raise BridgeError(
            f"the connection to another process is lost ({sentence}); if that process has died, JAX names it within "
            "two minutes; start all of them again with --resume"
        ) from None


def wait_for_all(where: str) -> None:
    """Go on when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


class SharedJudge:
    """A judge that the first process asks; all have its answers. In a single process it is that judge.

    Args:
        judge: of the first process; others need none.
    """

    def __init__(self, judge: Any) -> None:
        self._judge, self.name = judge, "of the first process" if judge is None else name_of(judge)
        self._tried = False
        self.symmetric = bool(told(np.array([getattr(judge, "symmetric", False)], np.int32))[0])

    def dry_run(self, prompts: Sequence[Any]) -> None:
        """Try the judge on three pairs of short answers, on the first process; a second call does nothing.

        Args:
            prompts: at least one, of those that the run will show.

        Raises:
            BridgeError: on the other processes, if the judge has failed; the first one raises the judge's own error.
        """
        if self._tried:
            return
        problem = None
        if jax.process_index() == 0:
            try:
                dry_run(self._judge, prompts)
            except BaseException as error:  # the others wait for a word
                problem = error
        failed = bool(told(np.array([problem is not None], np.int32))[0])
        if problem is not None:
            raise problem
        if failed:
            raise BridgeError(FAILED_THERE)
        self._tried = True

    def keyed(self, key: tuple[int, ...]) -> "SharedJudge":
        """The judge with the draws of another round."""
        found = copy.copy(self)
        found._judge = None if self._judge is None else keyed(self._judge, key)
        return found

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Float[np.ndarray, " n"]:
        """[n] the first process's answers to n pairs, P(a[i] is preferred to b[i]), the same on every process.

        Raises:
            BridgeError: on the other processes, if the judge has failed; the first one raises the judge's own error.
            Terminated: the first process was told to stop while it asked.
        """
        answers, problem, status = np.full(len(prompts), np.nan), None, FINE
        if jax.process_index() == 0:
            try:
                answers = answers_of(self._judge, prompts, a, b)
            except BaseException as error:  # the others wait for a word
                answers, problem = np.full(len(prompts), np.nan), error
                status = error.signal if isinstance(error, Terminated) else FAILED
        message = told(np.append(answers, status).view(np.int32)).view(np.float64)
        if problem is not None:
            raise problem
        if message[-1] == FAILED:
            raise BridgeError(FAILED_THERE)
        if message[-1] != FINE:
            raise Terminated(int(message[-1]))
        return message[:-1]


class SharedTermination(Termination):
    """One that any process may be told of; all of them hear it when they check, after the same round."""

    def check(self) -> None:
        """Where a run may end: all processes learn whether any of them was told to stop.

        Raises:
            Terminated: one of them was told to.
        """
        if jax.process_count() > 1:
            told = multihost_utils.process_allgather(np.array([self._number or 0], np.int32))
            self._number = int(np.max(told)) or None
        super().check()


def on_first(action: Callable[[], Any]) -> Any:
    """Do something on the first process; what it returns there, None on the others.

    Raises:
        BridgeError: it has failed there; its own error is raised there.
    """
    found, problem = None, None
    if jax.process_index() == 0:
        try:
            found = action()
        except Exception as error:  # the others wait for a word
            problem = error
    failed = told(np.array([problem is not None]))[0]
    if problem is not None:
        raise problem
    if failed:
        raise BridgeError("the first process was refused; what it says stands there")
    return found


def told(numbers: np.ndarray) -> np.ndarray:
    """The first process's numbers, bit for bit."""
    return np.asarray(multihost_utils.broadcast_one_to_all(numbers))
