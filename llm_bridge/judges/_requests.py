"""Requests to an endpoint that may fail for a while: what passes and what does not, how often and how long it is tried.

After an error that may be temporary a request is repeated, with growing, jittered waits: lost connections, timeouts,
408, 429 and 5xx. All requests of a call share one patience, in seconds: failed attempts use it up, each by its share of
the requests that are under way, and an attempt that succeeds restores it. So occasional errors never end a call, and a
service that is down costs that many seconds and no more.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from llm_bridge.judges._endpoint import Refusal
from llm_bridge.model.architecture import BridgeError

TRANSIENT, FATAL, TOO_MANY = (408, 429), (401, 402, 403, 404, 405, 410), 429
FATAL_CODES = ("model_not_found", "insufficient_quota")
MAX_ATTEMPTS = 8
SOON, SOON_ENOUGH = 3.0, 60.0  # seconds that `soon` waits for an endpoint that fails, or that is only busy
UNHEARD = 5.0  # seconds after which it is told that nothing comes
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class Transient(Exception):
    """An attempt has failed that may succeed when it is repeated.

    Attributes:
        wait: seconds that the endpoint asks to wait.
        words: the endpoint's own; "" if it said nothing.
        busy: whether the endpoint only has too many requests.
    """

    def __init__(self, reason: str, wait: float = 0.0, words: str = "", busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.words, self.busy = wait, words, busy


class Failed(Exception):
    """A request has failed for good; the text is "unreachable", "refused" or "invalid".

    Attributes:
        sentence: what the endpoint did, with its own words; "" if there is nothing to tell.
    """

    def __init__(self, reason: str, sentence: str = "") -> None:
        super().__init__(reason)
        self.sentence = sentence


@dataclass(frozen=True)
class Requests:
    """How an endpoint is asked.

    Attributes:
        what: is asked, such as "judge".
        endpoint: its address, for complaints.
        key_variable: the environment variable that holds the key, if there is one.
        concurrency: requests at the same time.
        timeout: of one attempt, seconds.
        patience: seconds of failed attempts, since the last one that succeeded, after which a call stops asking.
        most_bytes: of a reply.
        attempts: at one request, at most; None for as many as the patience allows.
        tell: called with a sentence when every attempt of the last seconds has failed, once in a call.
        now, sleep: the clock, seconds; without a `sleep` of its own, waiting ends at once when the call does.
    """

    what: str
    endpoint: str
    key_variable: str | None
    concurrency: int
    timeout: float
    patience: float
    most_bytes: int
    attempts: int | None = MAX_ATTEMPTS
    tell: Callable[[str], object] | None = field(default=None, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)

    @property
    def who(self) -> str:
        """For complaints."""
        return f"the {self.what} at {self.endpoint}"

    @property
    def key(self) -> str:
        """The key; "" if there is none."""
        return os.environ.get(self.key_variable or "", "").strip()

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Connections, which end with the block.

        Raises:
            BridgeError: httpx2 is not installed, or the key is none.
        """
        try:
            import httpx2 as httpx
        except ImportError:
            raise BridgeError(f"{self._article} over HTTP needs httpx2: pip install 'magnetic-mirror[judge]'") from None
        limits = httpx.Limits(max_connections=self.concurrency)
        with httpx.Client(headers=self._headers(), timeout=self.timeout, limits=limits) as client:
            yield client

    def sent(self, client: Any, address: str, content: str | None) -> tuple[int, str, bytes]:
        """Status, retry-after and body of the response to one request: a POST, or without content a GET.

        Raises:
            Transient: there is no response.
            Failed: it cannot be read.
            BridgeError: the address is none.
        """
        import httpx2 as httpx

        try:
            with client.stream("GET" if content is None else "POST", address, content=content) as response:
                found = bytearray()
                for block in response.iter_bytes(65_536):
                    found += block
                    if len(found) > self.most_bytes:
                        raise Failed("invalid", f"gives a reply of more than {self.most_bytes:,} bytes")
                return response.status_code, response.headers.get("retry-after", ""), bytes(found)
        except httpx.TimeoutException:
            raise Transient(f"no reply within {self.timeout:g} seconds") from None
        except httpx.TransportError as error:
            raise Transient(str(error) or type(error).__name__) from None
        except httpx.RequestError:
            raise Failed("invalid", "gives a reply that cannot be decoded") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BridgeError(f"the {self.what}'s endpoint {self.endpoint} is no address ({error})") from None

    def all(self, ask: Callable[[Any, "Patience", Any], Any], items: Iterable[Any]) -> list[Any]:
        """Ask about each item, several at the same time, with one patience: `ask(client, patience, item)`.

        When one fails, or the call is interrupted, no other is waited for. The connections end with the last request,
        since one that is being opened while they are closed would stay open.
        """
        patience = Patience(self.patience, self.now())

        def one(client: Any, item: Any) -> Any:
            with patience.shared():
                return ask(client, patience, item)

        with ExitStack() as stack:
            client = stack.enter_context(self.client())
            pool = ThreadPoolExecutor(self.concurrency, self.what)
            asked: list[Future[Any]] = []
            try:
                asked += (pool.submit(one, client, item) for item in items)
                return [each.result() for each in asked]
            finally:  # whoever interrupts this, such as SIGTERM, waits for nobody
                patience.give_up()
                pool.shutdown(wait=False, cancel_futures=True)
                _after(asked, stack.pop_all().close)

    def repeated(self, patience: "Patience", attempt: Callable[[], Any]) -> Any:
        """What an attempt gives, which is repeated until it succeeds, the attempts are used up, or the patience is.

        Raises:
            Failed: it has not succeeded.
        """
        newest: Transient | None = None
        for number in count() if self.attempts is None else range(self.attempts):
            if patience.exhausted:
                break
            begun = self.now()
            try:
                found = attempt()
            except Transient as failure:
                newest = failure
                longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(number, 10))
                wait = max(min(failure.wait, LONGEST_WAIT), random.uniform(longest / 2, longest))
                if number + 1 != self.attempts and not patience.exhausted:
                    (self.sleep or patience.over.wait)(wait)
                patience.spend(self.now() - begun)
                if self.tell is not None and patience.is_news(self.now()):
                    self.tell(f"{self.who} fails ({failure}), it is tried for {self.patience:g} seconds")
            else:
                patience.restore(self.now())
                return found
        raise Failed("unreachable") from newest

    def soon(self, attempt: Callable[[], Any]) -> Any:
        """What an attempt gives, repeated for a few seconds; for a minute where the endpoint is only busy.

        Raises:
            BridgeError: it cannot be reached.
        """
        begun, wait = self.now(), FIRST_WAIT
        while True:
            try:
                return attempt()
            except Transient as failure:
                wait = max(wait, failure.wait)
                if self.now() - begun + wait > (SOON_ENOUGH if failure.busy else SOON):
                    says = f"; it says: {failure.words}" if failure.words else ""
                    raise BridgeError(f"{self.who} cannot be asked ({failure}){says}") from None
                (self.sleep or time.sleep)(wait)
                wait *= 2

    @property
    def _article(self) -> str:
        return f"{'an' if self.what[0] in 'aeiou' else 'a'} {self.what}"

    def _headers(self) -> dict[str, str]:
        key = self.key
        if not (key.isascii() and key.isprintable()):
            raise BridgeError(f"the key in {self.key_variable} has characters that no key has; set it again")
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _after(futures: Sequence[Future[Any]], action: Callable[[], object]) -> None:
    """Act when all are done, in the thread that is the last to be done; at once where all are."""
    left, lock = len(futures) + 1, threading.Lock()

    def one_less(_: Any = None) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            action()

    for future in futures:
        future.add_done_callback(one_less)
    one_less()


def passing(status: int, retry_after: str, said: Refusal) -> Transient | None:
    """What a status means that is no success, if it may pass; None if it will not."""
    if (status in TRANSIENT or status >= 500) and said.code not in FATAL_CODES:
        wait = float(retry_after) if retry_after.isdecimal() else 0.0
        return Transient(f"it answers {status}", wait, said.words, busy=status == TOO_MANY)
    return None


def is_address(endpoint: str) -> bool:
    """Whether this is http(s)://host, perhaps with a port and a path, and nothing else."""
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
    return known and not any(c in endpoint for c in "@?# ")


class Patience:
    """Seconds that failures may cost, shared by threads."""

    def __init__(self, seconds: float, now: float) -> None:
        self._whole = self._left = seconds
        self._under_way = 0
        self._heard, self._told = now, False
        self._lock = threading.Lock()
        self.over = threading.Event()

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._left < 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """A request is under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def spend(self, seconds: float) -> None:
        """An attempt has failed that took so long, beside those of the other requests that are under way."""
        with self._lock:
            self._left -= seconds / max(1, self._under_way)

    def restore(self, now: float) -> None:
        """An attempt has succeeded."""
        with self._lock:
            self._left = self._whole if self._left >= 0 else self._left
            self._heard = now

    def is_news(self, now: float) -> bool:
        """Whether nothing has succeeded for a while, which was not asked before."""
        with self._lock:
            news = now - self._heard > UNHEARD and not self._told
            self._told = self._told or news
            return news

    def give_up(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._left = -1.0
        self.over.set()
