"""Being told to stop (SIGTERM, Ctrl-C): at once while a judge is asked, otherwise when the round is done.

A cloud machine that is taken away sends SIGTERM and waits for seconds. A round's update uses up the state that it
starts from, so it is left to finish; a judge may take minutes and changes nothing, so it is left in the middle.
"""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from llm_bridge.architecture import BridgeError
from llm_bridge.judges import name_of


class Terminated(BaseException):
    """The process was told to stop; `signal` says by what."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Termination:
    """Whether the process was told to stop."""

    def __init__(self) -> None:
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
        """Inside, SIGTERM and SIGINT are heard; a second one of them ends the process as it always does."""
        heard = (signal.SIGTERM, signal.SIGINT)
        if threading.current_thread() is not threading.main_thread():  # no other thread may set handlers
            yield self
            return
        before = {number: signal.signal(number, self._hear) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._number is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._number = number
        if self._at_once:
            raise Terminated(number)


class _Interruptible:
    """A judge that is asked with `Termination.at_once`, and that cannot end the process by itself."""

    def __init__(self, judge: Any, termination: Termination) -> None:
        self._judge, self._termination = judge, termination
        self.symmetric, self.name = getattr(judge, "symmetric", False), name_of(judge)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Any:
        try:
            with self._termination.at_once():
                return self._judge(prompts, a, b)
        except (SystemExit, KeyboardInterrupt) as error:  # a signal would have raised Terminated
            raise BridgeError(
                f"judge {self.name}: raised {type(error).__name__} instead of answering; what it cannot answer is NaN"
            ) from error
