"""Being told to stop (SIGTERM, Ctrl-C): at once while a judge is asked, otherwise at the next safe place, or soon.

A cloud machine that is taken away sends SIGTERM and waits for half a minute. A judge may take minutes and changes
nothing, so it is left in the middle. Anything else in a round is one call into XLA, which compiles, draws or learns,
and Python hears signals between two bytecodes only. Between two calls, until the update begins, the round is given up
(`check`). A thread hears signals as well, and looks at its watch (seconds after the first signal):

    0           nothing was done since the newest checkpoint: the thread ends the process. Otherwise it says what is
                waited for; and where that took longer than may be waited when it was done before, nothing is waited for
    1 or 10     (Ctrl-C, SIGTERM) the round is not done: the thread has the state before the round written and ends the
                process. An update overwrites the state that it starts from; while it runs there is nothing to write
    25          (SIGTERM) the thread ends the process with the checkpoints that there are

A second signal ends the process wherever it is.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from llm_bridge.judges import columns_for, dry_run, keyed, name_of
from llm_bridge.model.architecture import BridgeError
from llm_bridge.run.phases import Doing
from mmd.host import folder_lock

APART = 1.0  # seconds between two signals; what comes sooner, as from GNU timeout, is the same one again
SOON = 0.25  # seconds in which a run may stop without a word of what it waits for
PATIENCE = {signal.SIGINT: APART, signal.SIGTERM: 10.0}  # seconds in which a round may still come to its end
LIMIT = {signal.SIGTERM: 25.0}  # seconds after which the process ends in any case


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
        kept: the rounds of the newest checkpoint.
        rescue: called by another thread than the main one: writes a checkpoint of the rounds that are done and returns
            their number; None where that is not possible now.
        doing: what the run is doing; None where nobody knows.
    """

    def __init__(self) -> None:
        self.rounds: int | None = None
        self.kept: Callable[[], int] = lambda: 0
        self.rescue: Callable[[], int | None] = lambda: None
        self.doing: Callable[[], Doing | None] = lambda: None
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
        before = {number: signal.signal(number, self._hear) for number in PATIENCE}
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
        first: float | None = None
        plan: list[tuple[float, Callable[[], None]]] = []
        while True:
            left = max(0.0, plan[0][0] - time.monotonic()) if plan else None
            if not select.select([reader], [], [], left)[0]:
                plan.pop(0)[1]()
                continue
            if not (byte := os.read(reader, 1)):
                return
            number = byte[0]
            if number not in PATIENCE or (first is not None and time.monotonic() - first < APART):
                continue
            if first is not None:
                _leave(number, f"ended by a second {signal.Signals(number).name}; --resume goes on")
            first = time.monotonic()
            plan = [(first + seconds, partial(step, number)) for seconds, step in self._plan(number)]

    def _plan(self, number: int) -> list[tuple[float, Callable[[int], None]]]:
        """What the thread does, in seconds after the first signal."""
        patience, limit = PATIENCE[signal.Signals(number)], LIMIT.get(signal.Signals(number))
        at_once = [(0.0, self._leave_if_nothing_was_done), (0.0, self._rescue_if_it_is_long)]
        plan: list[tuple[float, Callable[[int], None]]] = [*at_once, (SOON, self._say_what_is_waited_for)]
        plan.append((patience, self._rescue))
        return plan if limit is None else [*plan, (limit, self._give_up)]

    def _leave_if_nothing_was_done(self, number: int) -> None:
        if self.rounds is not None and not self._at_once:
            _leave(number, f"told to stop by {signal.Signals(number).name}, {what_is_kept(self.rounds)}")

    def _rescue_if_it_is_long(self, number: int) -> None:
        doing, patience = self.doing(), PATIENCE[signal.Signals(number)]
        if doing is not None and doing.left is not None and doing.left > patience and not self._at_once:
            self._rescue(number)

    def _say_what_is_waited_for(self, number: int) -> None:
        if self._at_once:
            return  # the main thread leaves the judge
        limit, doing, name = LIMIT.get(signal.Signals(number)), self.doing(), signal.Signals(number).name
        latest = f", in {limit:.0f} seconds at the latest" if limit else ""
        now, until = ("", "round") if doing is None or doing.phase is None else (f"{doing}; ", doing.phase)
        _say(f"{name}: {now}the run stops when the {until} is done{latest}; a second signal ends it at once")

    def _rescue(self, number: int) -> None:
        rounds = None
        with suppress(Exception):  # whatever it is, the process still has to end in time
            rounds = self.rescue()
        if rounds is not None:
            _leave(number, f"told to stop by {signal.Signals(number).name}, {what_is_kept(rounds)}")

    def _give_up(self, number: int) -> None:
        _leave(number, f"told to stop by {signal.Signals(number).name}, {what_is_kept(self.kept())}")


class _Interruptible:
    """A judge that is asked with `Termination.at_once`, and that cannot end the process by itself."""

    def __init__(self, judge: Any, termination: Termination) -> None:
        self._judge, self._termination = judge, termination
        self.symmetric, self.name = getattr(judge, "symmetric", False), name_of(judge)

    def dry_run(self, prompts: Sequence[Any]) -> None:
        """Try the judge before the run; a signal needs no care here, for there is nothing to save yet."""
        dry_run(self._judge, prompts)

    def keyed(self, key: tuple[int, ...]) -> "_Interruptible":
        """The judge with the draws of another round."""
        return _Interruptible(keyed(self._judge, key), self._termination)

    def __call__(self, prompts: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Any:
        try:
            with self._termination.at_once():
                return self._judge(prompts, a, b, **columns_for(self._judge, prompts))
        except (SystemExit, KeyboardInterrupt) as error:  # a signal would have raised Terminated
            raise BridgeError(
                f"judge {self.name}: raised {type(error).__name__} instead of answering; what it cannot answer is NaN"
            ) from error


def what_is_kept(rounds: int) -> str:
    """Of a run that stops."""
    return f"rounds up to {rounds} are saved; --resume goes on" if rounds else "nothing is saved; --resume begins anew"


def _leave(number: int, reason: str) -> NoReturn:
    folder_lock.release_all()
    _say(reason)
    os._exit(128 + number)


def _say(text: str) -> None:
    sys.stderr.write(f"mpo: {text}\n")
    sys.stderr.flush()
