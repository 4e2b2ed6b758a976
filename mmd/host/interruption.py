"""Ctrl-C in a command, also where Python cannot hear it.

Python carries out a signal between two bytecodes of the main thread, and a compiler, or a compiled loop, may be minutes
of none. So a thread is woken as well. Half a second after Ctrl-C, if the process still runs, that thread lets the
command save and say what it has (`leaving`) and ends the process. It waits for work that ends by itself and keeps more
when it does: such work says so in `INTERRUPTION.patient`, as `mmd.solve` under `mmd.host.progress.interruptible` does
from its first check on. Files are replaced as a whole (`mmd.host.files`), so none is left half.

A program that is told to stop by SIGTERM ends at once, which is the system's doing.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 0.5  # seconds for the main thread to end the process in its own way
LAST_WORDS = 20.0  # seconds for what is saved and said at the end
INTERRUPTED = 130


class Interruption:
    """What Ctrl-C does to this process.

    Attributes:
        patient: whether the main thread will see to Ctrl-C itself, however long that takes.
    """

    def __init__(self) -> None:
        self.patient = False
        self._last_words: list[Callable[[], None]] = []
        self._is_leaving = False
        self._ended = threading.Event()

    @contextmanager
    def leaving(self, last_words: Callable[[], None]) -> Iterator[None]:
        """Inside, `last_words` is called before Ctrl-C ends a process whose main thread does not hear it.

        It is called in another thread, at most once, while the main thread goes on, though not beyond this block.
        """
        self._last_words.append(last_words)
        try:
            yield
        finally:
            if self._is_leaving:
                time.sleep(LAST_WORDS)
            self._last_words.remove(last_words)

    @contextmanager
    def heard(self, program: str) -> Iterator[None]:
        """Inside, Ctrl-C ends the process within a second; entered once, by the command `program`."""
        in_main = threading.current_thread() is threading.main_thread()
        if not in_main or os.name != "posix":  # elsewhere nothing but the main thread can be woken
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._watch, args=(reader, program), name="Ctrl-C", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            signal.set_wakeup_fd(woken)
            os.close(writer)  # which ends the watcher
            watcher.join()
            os.close(reader)

    def _watch(self, reader: int, program: str) -> None:
        while byte := os.read(reader, 1):
            if byte[0] == signal.SIGINT and not self._ended.wait(PATIENCE) and not self.patient:
                self._leave(program)

    def _leave(self, program: str) -> None:
        """Save and say what there is, and end the process."""
        self._is_leaving = True
        speaker = threading.Thread(target=self._speak, daemon=True)  # the main thread may hold what it waits for
        speaker.start()
        speaker.join(LAST_WORDS)
        with suppress(OSError, ValueError):  # nobody reads any more
            sys.stderr.write(f"{program}: interrupted\n")
            sys.stderr.flush()
            sys.stdout.flush()
        os._exit(INTERRUPTED)

    def _speak(self) -> None:
        for last_words in reversed(self._last_words):
            last_words()


INTERRUPTION = Interruption()  # signals belong to the whole process
