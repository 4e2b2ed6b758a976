"""A judge behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, or a hosted model.

Each comparison is one chat completion. What may pass by itself is tried again, with growing, jittered waits: lost
connections, timeouts, 408, 429 and 5xx. A refusal of one comparison (400, 413, 422), a malformed or an equivocal reply
makes it a failure, NaN, which is never a preference. A refusal of all of them (401, 403, 404) stops the run at once.

All comparisons of a call share one patience, in seconds: attempts that failed use it up, one that succeeded restores
it. So occasional errors are ridden out however many there are, and a service that is down costs that long and no
longer: what is still unanswered then has failed, and the next call begins anew.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from llm_bridge.architecture import BridgeError
from llm_bridge.judges._question import CRITERION, question, verdict
from llm_bridge.ranges import require

TRANSIENT, FATAL = (408, 429), (401, 403, 404, 405)
MAX_REPLY_BYTES = 1_000_000
MAX_ATTEMPTS = 8
UNHEARD = 5.0  # seconds after which it is told that nothing comes
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class _Transient(Exception):
    """An attempt has failed that may succeed when it is repeated."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Failed(Exception):
    """A comparison has failed for good."""


@dataclass(frozen=True)
class HttpJudge:
    """A judge that asks a chat model; called with `(prompts, a, b)` it returns P(a preferred), NaN where it failed.

    Attributes:
        endpoint: up to and including the version, such as "http://localhost:8000/v1".
        model: as the endpoint names it.
        key_variable: the environment variable that holds the key, if there is one; the key itself is never stored.
        criterion: what to compare by, one sentence.
        concurrency: comparisons that are asked at the same time.
        timeout: of one attempt, seconds.
        patience: see above, seconds.
        fields: further fields of the request, such as {"seed": 0} or {"max_tokens": 512}.
        tell: called with a sentence when every attempt of the last seconds has failed, once in a call, and when all of
            a call have.
        now, sleep: the clock, seconds; without a `sleep` of its own, waiting ends at once when the call does.
    """

    symmetric: ClassVar[bool] = False  # asked in both orders

    endpoint: str
    model: str
    key_variable: str | None = "OPENAI_API_KEY"
    criterion: str = CRITERION
    concurrency: int = 8
    timeout: float = 60.0
    patience: float = 600.0
    fields: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[str], object] | None = field(default=None, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        scheme, _, rest = self.endpoint.partition("://")
        if scheme not in ("http", "https") or not rest or any(c in rest for c in "@?# "):
            raise BridgeError("expected the judge's endpoint to be http(s)://host/v1, without user, query or fragment")
        for name in ("concurrency", "timeout", "patience"):
            require(name, getattr(self, name))

    @property
    def name(self) -> str:
        """For complaints."""
        return f"{self.model} at {self.endpoint}"

    def __call__(self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> Float[np.ndarray, " n"]:
        """P(a preferred) of each comparison, in the order given: 1, 0, or 0.5 for a tie; NaN where it failed.

        Raises:
            BridgeError: the endpoint refuses every request; or httpx2 is not installed.
        """
        found, reasons = self.ask_all(prompts, a, b)
        if self.tell is not None and reasons and all(reasons):
            counted = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
            self.tell(f"the judge {self.name} gave no verdict on {len(reasons)} comparisons ({counted})")
        return found

    def ask_all(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]
    ) -> tuple[Float[np.ndarray, " n"], list[str]]:
        """The same, and why each failed: "" if it did not, "unreachable", "refused" or "invalid"."""
        try:
            import httpx2 as httpx
        except ImportError:
            raise BridgeError("a judge over HTTP needs httpx2: pip install 'magnetic-mirror[judge]'") from None
        patience = _Patience(self.patience * self.concurrency, self.now())
        limits = httpx.Limits(max_connections=self.concurrency)
        pool = ThreadPoolExecutor(self.concurrency, "judge")
        with httpx.Client(headers=self._headers(), timeout=self.timeout, limits=limits) as client:

            def ask(comparison: tuple[str, str, str]) -> tuple[float, str]:
                try:
                    return self._ask(client, patience, question(*comparison, self.criterion)), ""
                except _Failed as reason:
                    return np.nan, str(reason)

            try:
                found = list(pool.map(ask, zip(prompts, a, b, strict=True)))
            finally:  # whoever interrupts this, such as SIGTERM, waits for nobody
                patience.give_up()
                pool.shutdown(wait=False, cancel_futures=True)
        return np.array([value for value, _ in found], np.float64), [reason for _, reason in found]

    def _ask(self, client: Any, patience: "_Patience", text: str) -> float:
        """Ask until there is a reply, the attempts are used up, or the patience is."""
        for attempt in range(MAX_ATTEMPTS):
            if patience.exhausted:
                break
            begun = self.now()
            try:
                reply = self._attempt(client, text)
            except _Transient as failure:
                longest = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
                wait = max(min(failure.wait, LONGEST_WAIT), random.uniform(longest / 2, longest))
                if attempt + 1 < MAX_ATTEMPTS and not patience.exhausted:
                    (self.sleep or patience.over.wait)(wait)
                patience.spend(self.now() - begun)
                if self.tell is not None and patience.is_news(self.now()):
                    self.tell(
                        f"the judge at {self.endpoint} fails ({failure}), it is tried for {self.patience:g} seconds"
                    )
            else:
                patience.restore(self.now())
                return self._verdict(reply)
        raise _Failed("unreachable")

    def _attempt(self, client: Any, text: str) -> bytes:
        import httpx2 as httpx

        content: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        body = json.dumps({**content, "temperature": 0, "max_tokens": 8, **self.fields})
        try:
            with client.stream("POST", f"{self.endpoint.rstrip('/')}/chat/completions", content=body) as response:
                self._check(response.status_code, response.headers.get("retry-after", ""))
                found = bytearray()
                for block in response.iter_bytes(65_536):
                    found += block
                    if len(found) > MAX_REPLY_BYTES:
                        raise _Failed("invalid")
                return bytes(found)
        except httpx.TransportError as error:
            raise _Transient(str(error) or type(error).__name__) from None
        except httpx.RequestError:  # a body that cannot be decoded
            raise _Failed("invalid") from None

    def _check(self, status: int, retry_after: str) -> None:
        if status in TRANSIENT or status >= 500:
            raise _Transient(f"it answers {status}", float(retry_after) if retry_after.isdecimal() else 0.0)
        if status in FATAL or 300 <= status < 400:
            key = f", with the key in {self.key_variable}" if self.key_variable in os.environ else ", without a key"
            raise BridgeError(f"the judge at {self.endpoint} answers {status} to the model {self.model!r}{key}")
        if status >= 400:
            raise _Failed("refused")

    def _verdict(self, reply: bytes) -> float:
        try:
            text = json.loads(reply)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            text = None
        if (found := verdict(text)) is None:
            raise _Failed("invalid")
        return found

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(self.key_variable or "", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BridgeError(f"the key in {self.key_variable} has characters that no key has; set it again")
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


class _Patience:
    """Seconds that failures may cost, shared by threads."""

    def __init__(self, seconds: float, now: float) -> None:
        self._whole = self._left = seconds
        self._heard, self._told = now, False
        self._lock = threading.Lock()
        self.over = threading.Event()

    @property
    def exhausted(self) -> bool:
        return self._left < 0

    def spend(self, seconds: float) -> None:
        with self._lock:
            self._left -= seconds

    def restore(self, now: float) -> None:
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
        with self._lock:
            self._left = -1.0
        self.over.set()
