"""Being told to stop (SIGTERM, Ctrl-C): at once while a judge is asked, otherwise when the round is done.

A cloud machine that is taken away sends SIGTERM and waits for seconds. A round's update uses up the state that it
starts from, so it is left to finish; a judge may take minutes and changes nothing, so it is left in the middle.

Python hears signals between two bytecodes only, and compiling a program, which the first round does, may be a minute of
none. So a thread hears them as well: before the first round is done there is nothing to lose and it ends the process,
later it says that the signal was heard, and when a second one comes it ends the process all the same.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from llm_bridge.architecture import BridgeError
from llm_bridge.judges import dry_run, name_of

HEARD = (signal.SIGTERM, signal.SIGINT)
APART = 1.0  # seconds between two signals; what comes sooner, as from GNU timeout, is the same one again


class Terminated(BaseException):
    """The process was told to stop; `signal` says by what."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Termination:
    """Whether the process was told to stop.

    Attributes:
        rounds: those of the newest checkpoint as long as nothing was done since, so that the process may be ended
            anywhere; None if it may not.
    """

    def __init__(self) -> None:
        self.rounds: int | None = None
        self._number: int | None = None
        self._at_once = False

    def check(self) -> None:
        """Where a run may end.

        Raises:
            Terminated: it was told to.
        """
        if self._number is not None:
            raise Terminated(self._number)

    def interrupting(self, judge: Any) -> Any:
        """The judge, in the middle of which the run may end."""
        return _Interruptible(judge, self)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, being told to stop raises `Terminated` wherever the main thread stands."""
        Termination.check(self)  # by what this process knows
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def listening(self) -> Iterator["Termination"]:
        """Inside, SIGTERM and SIGINT are heard; a second one of them ends the process at once."""
        if threading.current_thread() is not threading.main_thread():  # no other thread may set handlers
            yield self
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = {number: signal.signal(number, self._hear) for number in HEARD}
        woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True)
        watcher.start()
        try:
            yield self
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)  # which ends the watcher
            watcher.join()
            os.close(reader)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
            if self._at_once:
                raise Terminated(number)

    def _watch(self, reader: int) -> None:
        """Hear signals that the main thread has no time for."""
        first, name, patience = None, "", None
        while True:
            if not select.select([reader], [], [], patience)[0]:
                _say(f"{name}: the run stops when the round is done; a second signal ends it at once")
                patience = None
                continue
            if not (byte := os.read(reader, 1)):
                return
            if (number := byte[0]) not in HEARD or (first is not None and time.monotonic() - first < APART):
                continue
            if first is not None:
                _leave(number, f"ended by a second {signal.Signals(number).name}; --resume goes on")
            first, name, patience = time.monotonic(), signal.Signals(number).name, APART
            if self.rounds is not None and not self._at_once:
                _leave(number, f"told to stop by {name}, {what_is_kept(self.rounds)}")


class _Interruptible:
    """A judge that is asked with `Termination.at_once`, and that cannot end the process by itself."""

    def __init__(self, judge: Any, termination: Termination) -> None:
        self._judge, self._termination = judge, termination
        self.symmetric, self.name = getattr(judge, "symmetric", False), name_of(judge)

    def dry_run(self, prompts: Sequence[Any]) -> None:
        """See `llm_bridge.judges`; before the run, so nothing has to be saved where it is interrupted."""
        dry_run(self._judge, prompts)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Any:
        try:
            with self._termination.at_once():
                return self._judge(prompts, a, b)
        except (SystemExit, KeyboardInterrupt) as error:  # a signal would have raised Terminated
            raise BridgeError(
                f"judge {self.name}: raised {type(error).__name__} instead of answering; what it cannot answer is NaN"
            ) from error


def what_is_kept(rounds: int) -> str:
    """Of a run that stops."""
    return f"rounds up to {rounds} are saved; --resume goes on" if rounds else "nothing is saved; --resume begins anew"


def _leave(number: int, reason: str) -> NoReturn:
    _say(reason)
    os._exit(128 + number)


def _say(text: str) -> None:
    sys.stderr.write(f"mpo: {text}\n")
    sys.stderr.flush()
