"""Servers that run in threads of a test, and the clock of those who wait for them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any


class Clock:
    """Seconds that pass only when somebody sleeps; threads share them."""

    def __init__(self) -> None:
        self.seconds, self.lock = 0.0, threading.Lock()

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.seconds += seconds


@contextmanager
def running(made: Callable[[Any], ThreadingHTTPServer]) -> Iterator[Callable[[Any], Any]]:
    """A function that makes a server and starts it; all of them are shut down after the block."""
    servers: list[ThreadingHTTPServer] = []

    def start(given: Any) -> ThreadingHTTPServer:
        servers.append(made(given))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
