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
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from llm_bridge.judges import Prompt
from llm_bridge.judges._endpoint import Refusal, refusal, shown
from llm_bridge.judges._question import CRITERION, question, verdict
from llm_bridge.judges._requests import (
    FATAL,
    FATAL_CODES,
    MAX_ATTEMPTS,
    Failed,
    Patience,
    Requests,
    is_address,
    passing,
)
from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.ranges import require

MORE = "give it more tokens (max_tokens, --judge-max-tokens)"
NOT_WHOLE = {"length": f"was cut off, {MORE}", "content_filter": "a filter of contents has ended, so it is no verdict"}
THOUGHTS = ("reasoning_content", "reasoning")  # where endpoints put what a judge thinks before its reply
OWN_FIELDS = ("model", "messages", "stream")
MAX_REPLY_BYTES = 1_000_000
SIMPLE = (
    ("What is 2 + 2?", "2 + 2 is 4.", "2 + 2 is 5."),
    ("Name a colour.", "I will not.", "Blue."),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has two legs."),
)


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
        if not is_address(self.endpoint):
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
        problem, requests = "", self._requests
        with requests.client() as client:
            for comparison in SIMPLE:
                text = question(*comparison, self.criterion, self.reply_field)
                try:
                    self._verdict(requests.soon(partial(self._attempt, client, text)))
                    return
                except Failed as failure:
                    problem = problem or failure.sentence
                    if str(failure) == "refused":
                        break
        raise BridgeError(f"the judge {self.name} {problem}")

    def ask_all(
        self, prompts: Sequence[str], a: Sequence[str], b: Sequence[str]
    ) -> tuple[Float[np.ndarray, " n"], list[str]]:
        """The same, and why each failed: "" if it did not, "unreachable", "refused" or "invalid"."""
        requests = self._requests

        def ask(client: Any, patience: Patience, comparison: tuple[str, str, str]) -> tuple[float, str]:
            text = question(*comparison, self.criterion, self.reply_field)
            try:
                return self._verdict(requests.repeated(patience, partial(self._attempt, client, text))), ""
            except Failed as failure:
                if failure.sentence:
                    self._tell_once(str(failure), f"{failure.sentence}; more of this kind are only counted")
                return np.nan, str(failure)

        found = requests.all(ask, zip(prompts, a, b, strict=True))
        return np.array([value for value, _ in found], np.float64), [reason for _, reason in found]

    def _attempt(self, client: Any, text: str) -> bytes:
        """One request; again at once where the endpoint has said which field it takes instead of another."""
        while True:
            sent = self._content(text)
            status, retry_after, body = self._requests.sent(client, self._address, json.dumps(sent))
            if 200 <= status < 300:
                return body
            said = refusal(body, self._requests.key)
            if status not in (400, 422) or not self._takes_other_fields(sent, said):
                raise self._error(status, retry_after, said)

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
        if (failure := passing(status, retry_after, said)) is not None:
            return failure
        says = f"; it says: {said.words}" if said.words else ""
        if status in FATAL or said.code in FATAL_CODES or 300 <= status < 400:
            return BridgeError(f"the judge at {self.endpoint} {self._wrong(status, said)}{says}")
        return Failed("refused", f"refuses a comparison with {status}{says}")

    def _wrong(self, status: int, said: Refusal) -> str:
        """What is wrong with every request."""
        named = re.search(rf"(?<![\w.-]){re.escape(self.model)}(?![\w-])", said.words) and "model" in said.words.lower()
        if said.code == "model_not_found" or (status == 404 and named):
            return f"has no model {self.model!r} ({status})"
        if status in (404, 405):
            wanted = "an address up to and including the version, http(s)://host/v1"
            return f"answers {status}, there is nothing at {self._address}; expected {wanted}"
        key = f", with the key in {self.key_variable}" if self._requests.key else ", without a key"
        return f"answers {status} to the model {self.model!r}{key}"

    def _verdict(self, reply: bytes) -> float:
        try:
            choice = json.loads(reply)["choices"][0]
            message, ended = choice["message"], choice.get("finish_reason")
            thought = any(message.get(name) for name in THOUGHTS)
            text = message.get("content") if thought else message["content"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            said = refusal(reply, self._requests.key).words
            raise Failed("invalid", f"gives a reply that is no chat completion: {said}") from None
        problem = NOT_WHOLE.get(ended) if isinstance(ended, str) else None
        found = verdict(text, self.reply_field) if problem is None else None
        if found is None:
            said = shown(text if isinstance(text, str) else json.dumps(text), self._requests.key)
            if problem is None:
                problem = f"is no verdict but reasoning alone, {MORE}" if thought and not text else "is no verdict"
            raise Failed("invalid", f"gives a reply that {problem}: {said}")
        return found

    def _tell_once(self, kind: str, sentence: str) -> None:
        mine = object()
        if self.tell is not None and self._told.setdefault(kind, mine) is mine:  # one of several threads
            self.tell(f"the judge {self.name} {sentence}")

    @property
    def _address(self) -> str:
        return f"{self.endpoint.rstrip('/')}/chat/completions"

    @property
    def _requests(self) -> Requests:
        """How the endpoint is asked."""
        return Requests(
            "judge",
            self.endpoint,
            self.key_variable,
            self.concurrency,
            self.timeout,
            self.patience,
            MAX_REPLY_BYTES,
            MAX_ATTEMPTS,
            self.tell,
            self.now,
            self.sleep,
        )


def _number_of_pairs(a: Sequence[str], b: Sequence[str]) -> int:
    """How many pairs are asked about: half of the comparisons if the second half is the first in the other order."""
    half = len(a) // 2
    both = len(a) == 2 * half and [*a] == [*b[half:], *b[:half]]
    return half if both else len(a)
