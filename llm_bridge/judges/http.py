"""A judge behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, or a hosted model.

Each comparison is one chat completion. After an error that may be temporary it is tried again, with growing, jittered
waits: lost connections, timeouts, 408, 429 and 5xx. A comparison fails if the endpoint refuses it (400, 413, 422), or
if the reply is malformed, equivocal or ended by a content filter; a failure is NaN and never a preference. A refusal of
all comparisons (401, 402, 403, 404, 410, a used-up quota) stops the run at once. The endpoint's own words are shown
with a refusal of all, and once for each other kind of refusal or reply.

Requests ask for 8 tokens at temperature 0. An endpoint that complains of `max_tokens` and names `max_completion_tokens`
gets that instead, and one that complains of the temperature gets none.

Before a run the endpoint is asked one simple question (`dry_run`), which waits seconds and not minutes.

All comparisons of a call share one patience, in seconds: failed attempts use it up, and an attempt that succeeds
restores it. So occasional errors never end a call, and a service that is down costs that many seconds and no more:
comparisons without an answer by then have failed, and the next call begins with full patience.
"""

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float

from llm_bridge.judges import Prompt
from llm_bridge.judges._endpoint import Refusal, refusal, shown
from llm_bridge.judges._question import CRITERION, question, verdict
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import require

TRANSIENT, FATAL, TOO_MANY = (408, 429), (401, 402, 403, 404, 405, 410), 429
FATAL_CODES = ("model_not_found", "insufficient_quota")
MORE = "give it more tokens (max_tokens, --judge-max-tokens)"
NOT_WHOLE = {"length": f"was cut off, {MORE}", "content_filter": "a filter of contents has ended, so it is no verdict"}
THOUGHTS = ("reasoning_content", "reasoning")  # where endpoints put what a judge thinks before its reply
OWN_FIELDS = ("model", "messages", "stream")
MAX_REPLY_BYTES = 1_000_000
MAX_ATTEMPTS = 8
SIMPLE = (
    ("What is 2 + 2?", "2 + 2 is 4.", "2 + 2 is 5."),
    ("Name a colour.", "I will not.", "Blue."),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has two legs."),
)
SOON, SOON_ENOUGH = 3.0, 60.0  # seconds that `dry_run` waits for an endpoint that fails, or that is only busy
UNHEARD = 5.0  # seconds after which it is told that nothing comes
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class _Transient(Exception):
    """An attempt has failed that may succeed when it is repeated.

    Attributes:
        wait: seconds that the endpoint asks to wait.
        words: the endpoint's own; "" if it said nothing.
        busy: whether the endpoint only has too many requests.
    """

    def __init__(self, reason: str, wait: float = 0.0, words: str = "", busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.words, self.busy = wait, words, busy


class _Failed(Exception):
    """A comparison has failed for good; the text is "unreachable", "refused" or "invalid".

    Attributes:
        sentence: what the judge did, with its own words; "" if there is nothing to tell.
    """

    def __init__(self, reason: str, sentence: str = "") -> None:
        super().__init__(reason)
        self.sentence = sentence


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
        patience: seconds of failed attempts, since the last one that succeeded, after which a call stops asking.
        fields: further fields of the request, such as {"seed": 0}; one that is None is not sent.
        reply_field: of a JSON object, in which the judge is to say A, B or TIE; None for the word alone.
        max_tokens: most tokens of a reply; a judge that reasons first needs some hundreds or thousands.
        tell: called with a sentence when every attempt of the last seconds has failed, once in a call, when all of a
            call have, and once each of what a refusal and a reply that is no verdict say.
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
    reply_field: str | None = None
    max_tokens: int = 8
    tell: Callable[[str], object] | None = field(default=None, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    _renamed: dict[str, str | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _told: dict[str, object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _is_address(self.endpoint):
            raise BridgeError("expected the judge's endpoint to be http(s)://host/v1, without user, query or fragment")
        for name in ("max_tokens", "concurrency", "timeout", "patience"):
            require(name, getattr(self, name))
        if own := [name for name in OWN_FIELDS if name in self.fields]:
            raise BridgeError(f"expected no {own[0]!r} among the further fields of a judge's request, it has its own")

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
            reasons = reasons[: _number_of_pairs(a, b)]
            counted = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
            self.tell(f"the judge {self.name} gave no verdict on {len(reasons)} pairs ({counted})")
        return found

    def dry_run(self, prompts: Sequence[Prompt] = ()) -> None:
        """Ask a simple question of its own; two more where the reply is no verdict. It waits seconds, not minutes.

        Raises:
            BridgeError: the endpoint cannot be reached, refuses, or gives no verdict; with its own words.
        """
        problem = ""
        with self._client() as client:
            for comparison in SIMPLE:
                try:
                    self._ask_soon(client, question(*comparison, self.criterion, self.reply_field))
                    return
                except _Failed as failure:
                    problem = problem or failure.sentence
                    if str(failure) == "refused":
                        break
        raise BridgeError(f"the judge {self.name} {problem}")

    def ask_all(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]
    ) -> tuple[Float[np.ndarray, " n"], list[str]]:
        """The same, and why each failed: "" if it did not, "unreachable", "refused" or "invalid"."""
        patience = _Patience(self.patience * self.concurrency, self.now())
        with self._client() as client:
            pool = ThreadPoolExecutor(self.concurrency, "judge")

            def ask(comparison: tuple[str, str, str]) -> tuple[float, str]:
                try:
                    return self._ask(client, patience, question(*comparison, self.criterion, self.reply_field)), ""
                except _Failed as failure:
                    if failure.sentence:
                        self._tell_once(str(failure), f"{failure.sentence}; more of this kind are only counted")
                    return np.nan, str(failure)

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

    def _ask_soon(self, client: Any, text: str) -> float:
        """Ask until there is a reply, or a few seconds are over; a minute where the endpoint is only busy.

        Raises:
            BridgeError: it cannot be reached.
        """
        begun, wait = self.now(), FIRST_WAIT
        while True:
            try:
                return self._verdict(self._attempt(client, text))
            except _Transient as failure:
                wait = max(wait, failure.wait)
                if self.now() - begun + wait > (SOON_ENOUGH if failure.busy else SOON):
                    says = f"; it says: {failure.words}" if failure.words else ""
                    raise BridgeError(f"the judge at {self.endpoint} cannot be asked ({failure}){says}") from None
                (self.sleep or time.sleep)(wait)
                wait *= 2

    def _attempt(self, client: Any, text: str) -> bytes:
        """One request; again at once where the endpoint has said which field it takes instead of another."""
        while True:
            sent = self._content(text)
            status, retry_after, body = self._posted(client, json.dumps(sent))
            if 200 <= status < 300:
                return body
            said = refusal(body, self._key())
            if status not in (400, 422) or not self._takes_other_fields(sent, said):
                raise self._error(status, retry_after, said)

    def _posted(self, client: Any, content: str) -> tuple[int, str, bytes]:
        """Status, retry-after and body of the response to one request."""
        import httpx2 as httpx

        try:
            with client.stream("POST", self._address, content=content) as response:
                found = bytearray()
                for block in response.iter_bytes(65_536):
                    found += block
                    if len(found) > MAX_REPLY_BYTES:
                        raise _Failed("invalid", f"gives a reply of more than {MAX_REPLY_BYTES:,} bytes")
                return response.status_code, response.headers.get("retry-after", ""), bytes(found)
        except httpx.TimeoutException:
            raise _Transient(f"no reply within {self.timeout:g} seconds") from None
        except httpx.TransportError as error:
            raise _Transient(str(error) or type(error).__name__) from None
        except httpx.RequestError:
            raise _Failed("invalid", "gives a reply that cannot be decoded") from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BridgeError(f"the judge's endpoint {self.endpoint} is no address ({error})") from None

    def _content(self, text: str) -> dict[str, Any]:
        """The fields of a request."""
        limit = {} if "max_completion_tokens" in self.fields else {"max_tokens": self.max_tokens}
        content: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
        }
        content |= {**limit, **self.fields}
        for name, other in self._renamed.copy().items():
            value = content.pop(name, None)
            if other is not None:
                content[other] = value
        return {name: value for name, value in content.items() if value is not None}

    def _takes_other_fields(self, sent: Mapping[str, Any], said: Refusal) -> bool:
        """Whether the endpoint complains of a field that it can get otherwise; from now on it does."""
        if "max_tokens" in sent and "max_completion_tokens" in said.words:
            self._renamed["max_tokens"] = "max_completion_tokens"
            return True
        unsupported = said.field == "temperature" or ("temperature" in said.words and "support" in said.words)
        if "temperature" in sent and "temperature" not in self.fields and unsupported:
            self._renamed["temperature"] = None
            self._tell_once("temperature", "takes no temperature of 0, so it may say another thing the next time")
            return True
        return False

    def _error(self, status: int, retry_after: str, said: Refusal) -> Exception:
        """What a status that is no success means."""
        if (status in TRANSIENT or status >= 500) and said.code not in FATAL_CODES:
            wait = float(retry_after) if retry_after.isdecimal() else 0.0
            return _Transient(f"it answers {status}", wait, said.words, busy=status == TOO_MANY)
        says = f"; it says: {said.words}" if said.words else ""
        if status in FATAL or said.code in FATAL_CODES or 300 <= status < 400:
            return BridgeError(f"the judge at {self.endpoint} {self._wrong(status, said)}{says}")
        return _Failed("refused", f"refuses a comparison with {status}{says}")

    def _wrong(self, status: int, said: Refusal) -> str:
        """What is wrong with every request."""
        named = re.search(rf"(?<![\w.-]){re.escape(self.model)}(?![\w-])", said.words) and "model" in said.words.lower()
        if said.code == "model_not_found" or (status == 404 and named):
            return f"has no model {self.model!r} ({status})"
        if status in (404, 405):
            wanted = "an address up to and including the version, http(s)://host/v1"
            return f"answers {status}, there is nothing at {self._address}; expected {wanted}"
        key = f", with the key in {self.key_variable}" if self._key() else ", without a key"
        return f"answers {status} to the model {self.model!r}{key}"

    def _verdict(self, reply: bytes) -> float:
        try:
            choice = json.loads(reply)["choices"][0]
            message, ended = choice["message"], choice.get("finish_reason")
            thought = any(message.get(name) for name in THOUGHTS)
            text = message.get("content") if thought else message["content"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            said = refusal(reply, self._key()).words
            raise _Failed("invalid", f"gives a reply that is no chat completion: {said}") from None
        problem = NOT_WHOLE.get(ended) if isinstance(ended, str) else None
        found = verdict(text, self.reply_field) if problem is None else None
        if found is None:
            said = shown(text if isinstance(text, str) else json.dumps(text), self._key())
            if problem is None:
                problem = f"is no verdict but reasoning alone, {MORE}" if thought and not text else "is no verdict"
            raise _Failed("invalid", f"gives a reply that {problem}: {said}")
        return found

    def _tell_once(self, kind: str, sentence: str) -> None:
        mine = object()
        if self.tell is not None and self._told.setdefault(kind, mine) is mine:  # one of several threads
            self.tell(f"the judge {self.name} {sentence}")

    @property
    def _address(self) -> str:
        return f"{self.endpoint.rstrip('/')}/chat/completions"

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            import httpx2 as httpx
        except ImportError:
            raise BridgeError("a judge over HTTP needs httpx2: pip install 'magnetic-mirror[judge]'") from None
        limits = httpx.Limits(max_connections=self.concurrency)
        with httpx.Client(headers=self._headers(), timeout=self.timeout, limits=limits) as client:
            yield client

    def _key(self) -> str:
        """The key; "" if there is none."""
        return os.environ.get(self.key_variable or "", "").strip()

    def _headers(self) -> dict[str, str]:
        key = self._key()
        if not (key.isascii() and key.isprintable()):
            raise BridgeError(f"the key in {self.key_variable} has characters that no key has; set it again")
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _is_address(endpoint: str) -> bool:
    """Whether this is http(s)://host, perhaps with a port and a path, and nothing else."""
    try:
        parts = urlsplit(endpoint)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
    return known and not any(c in endpoint for c in "@?# ")


def _number_of_pairs(a: Sequence[str], b: Sequence[str]) -> int:
    """How many pairs are asked about: half of the comparisons if the second half is the first in the other order."""
    half = len(a) // 2
    both = len(a) == 2 * half and [*a] == [*b[half:], *b[:half]]
    return half if both else len(a)


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
