"""An engine over HTTP: the completions server of vLLM, of SGLang, or `mpo serve`.

Before a round's draws the weights are written into a folder that the server sees as well, and the server is told to
load them: an adapter under a new name each time, whole weights in place of those before. The name of an adapter, and
the version that SGLang sends with every reply, say which weights have drawn. After each hand-over the log-probabilities
of the first answers are compared with the trainer's, so that a server of other weights is found whatever it says.

`max_staleness` lets the server draw so many rounds from the same weights; 0, the default, hands over every round.

A server that is started again has forgotten its adapters: they are handed over once more. Errors that may pass are
ridden out as a judge's are (`llm_bridge.judges._requests`). All others end the run in one sentence; what was done is
saved.

Of several processes the first one asks, and all get the same answers.

What is sent, and read, was looked up in the sources of vLLM and SGLang in November 2026; docs/reference/engines.md
lists it.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np
from jax.experimental import multihost_utils

from llm_bridge.checkpoint import adapters, export
from llm_bridge.judges._endpoint import Refusal, refusal
from llm_bridge.judges._requests import Failed, Patience, Requests, Transient, is_address, passing
from llm_bridge.model import sharding
from llm_bridge.model.ranges import require
from llm_bridge.policy.generate import bucket
from llm_bridge.policy.policy import Policy, own_decoder
from llm_bridge.train.engine import Answers, EngineError, Order, check

PREFIX = "weights-"  # of the folders that are handed over
HANDED_OVER = re.compile(rf"{PREFIX}\d{{6,}}-[0-9a-f]{{8}}")  # their names
MOST_BYTES = 1 << 28
APART = 0.5  # nats a token, on average, between an engine's log-probabilities and ours: more than any rounding
SHORT = 10.0  # seconds that a server is waited for when nothing depends on it any more
KNOWN = "expected a server that returns token ids and log-probabilities, such as vLLM from 0.10.2, SGLang or mpo serve"
THERE = "the engine of the first process has failed; what it says stands there"


class Dialect(NamedTuple):
    """How a server loads weights.

    Attributes:
        load, unload: of adapters, behind the version, or with a slash before it behind the host.
        whole: of whole weights, behind the host.
        seeded: whether answers of one request with a seed are known to differ.
        start: what it has to be started with for adapters, and for whole weights.
    """

    load: str
    unload: str
    whole: str
    seeded: bool
    start: tuple[str, str]


OURS = Dialect("load_lora_adapter", "unload_lora_adapter", "/update_weights_from_disk", True, ("", ""))
DIALECTS = {
    "vllm": OURS._replace(
        whole="/collective_rpc",
        start=("--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True", "VLLM_SERVER_DEV_MODE=1"),
    ),
    "sglang": OURS._replace(
        load="/load_lora_adapter",
        unload="/unload_lora_adapter",
        seeded=False,
        start=("--enable-lora, --max-lora-rank and --lora-target-modules all", ""),
    ),
}


class _Given(NamedTuple):
    """Weights that the server was given.

    Attributes:
        name: theirs, which no others have.
        place: their folder.
        round: of which they are.
        adapted: whether they are an adapter.
    """

    name: str
    place: Path
    round: int
    adapted: bool


class _Lost(Exception):
    """The server does not have the weights that it was given."""


class _Refused(Exception):
    """The server does not carry a request out."""

    def __init__(self, status: int, said: Refusal) -> None:
        super().__init__(f"answers {status}{f'; it says: {said.words}' if said.words else ''}")
        self.status, self.words = status, said.words


@dataclass(eq=False)
class HttpEngine:
    """An engine that is a completions server; one for each run.

    Attributes:
        endpoint: up to and including the version, such as "http://localhost:8000/v1".
        folder: where weights are handed over, of this engine alone; the server has to see it under the same name.
        model: the base's name at the server; None for the first one that it serves.
        max_staleness: how many rounds the server's weights may be older than the trained ones.
        key_variable: the environment variable that holds the key, if there is one; the key itself is never stored.
        concurrency: prompts that are asked about at the same time.
        timeout: of one attempt, seconds.
        patience: seconds of failed attempts, since the last one that succeeded, after which the run ends.
        tell: called with a sentence when every attempt of the last seconds has failed.
        guard: a context in which the server is waited for.
        now, sleep: the clock, seconds.
    """

    endpoint: str
    folder: str | os.PathLike[str]
    model: str | None = None
    max_staleness: int = 0
    key_variable: str | None = None
    concurrency: int = 64
    timeout: float = 600.0
    patience: float = 600.0
    tell: Callable[[str], object] | None = field(default=None, repr=False)
    guard: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], object] | None = field(default=None, repr=False)
    _base: str = field(default="", init=False, repr=False)
    _dialect: Dialect = field(default=OURS, init=False, repr=False)
    _given: _Given | None = field(default=None, init=False, repr=False)
    _looked: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if not is_address(self.endpoint):
            raise EngineError("expected the engine to be http(s)://host/v1, without user, query or fragment")
        for name in ("max_staleness", "concurrency", "timeout", "patience"):
            require(name, getattr(self, name))
        self.folder = Path(self.folder).absolute()  # a judge may go elsewhere

    def dry_run(self, policy: Policy) -> None:
        """Ask which models there are; it waits seconds, not minutes.

        What a run that was killed has left is removed, from the folder and from the server.

        Raises:
            BridgeError: the server cannot be reached, or has no such model; or the policy wraps a module that no server
                can load.
        """
        own_decoder(policy, "no engine can load")
        self.close()
        self._everywhere(self._look, ())
        self._looked = True

    def __call__(self, order: Order) -> Answers:
        """The server's answers.

        Raises:
            BridgeError: it cannot be reached, refuses, or gives something else than was asked for.
        """
        version = None if self._given is None else self._given.round
        fresh = version is None or not version <= order.round <= version + self.max_staleness
        policy = self._hand_over(order) if fresh else None
        try:
            tokens, log_probs = self._everywhere(partial(self._asked, order), _blank(order))
        except _Lost:
            policy = self._hand_over(order)
            try:
                tokens, log_probs = self._everywhere(partial(self._asked, order), _blank(order))
            except _Lost as error:
                raise EngineError(f"{self._who} has lost the weights that it has just loaded{error}") from None
        ids = [row[row >= 0].tolist() for row in tokens]
        theirs = [row[: len(one)].tolist() for row, one in zip(log_probs, ids, strict=True)]
        assert self._given is not None
        found = Answers(ids, theirs, {"engine/staleness": float(order.round - self._given.round)})
        if policy is not None:
            self._compare(policy, found, order)
        return found

    def close(self) -> None:
        """Remove what was handed over, and have the server forget an adapter."""
        if self._given is not None and jax.process_index() == 0:
            with self._hasty.client() as client:
                self._forget(client, self._given)
            shutil.rmtree(self._given.place, ignore_errors=True)
        self._given = None

    # ------------------------------------------------------------------------------------------------ weights

    def _look(self) -> tuple[()]:
        """Find the model, and which kind of server it is."""
        try:
            with self._requests.client() as client:
                body = self._requests.soon(partial(self._got, client, "models", None))
        except _Refused as error:
            raise EngineError(f"{self._who} {error}; expected an address up to the version, as /v1") from None
        except Failed as failure:
            raise self._silent(failure) from None
        try:
            served = {str(card["id"]): card for card in json.loads(body)["data"] if not card.get("parent")}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"{self._who} does not say which models it serves; {KNOWN}") from None
        name = self.model or next(iter(served), "")
        if name not in served:
            raise EngineError(f"{self._who} has no model {name!r}, it serves {', '.join(served) or 'none'}")
        self._base, self._dialect = name, DIALECTS.get(str(served[name].get("owned_by")), OURS)
        left = [path for path in Path(self.folder).glob(f"{PREFIX}*") if HANDED_OVER.fullmatch(path.name)]
        with self._hasty.client() as client:
            for path in left:
                self._forget(client, _Given(path.name, path, 0, adapted=True))
                shutil.rmtree(path, ignore_errors=True)
        return ()

    def _hand_over(self, order: Order) -> Policy:
        """Write the weights and have the server load them; all processes do it together."""
        policy, before = order.policy(), self._given
        if not self._looked:
            self.dry_run(policy)
        name = f"{PREFIX}{order.round:06d}-{os.urandom(4).hex()}"  # never one that the server knows already
        given = _Given(name, Path(self.folder) / name, order.round, policy.is_adapted)
        (adapters.save_adapter if given.adapted else export.save)(policy, given.place)
        old = given
        try:
            self._everywhere(partial(self._load, given, before), ())
            self._given, old = given, before
        finally:
            if old is not None and jax.process_index() == 0:
                shutil.rmtree(old.place, ignore_errors=True)
        return policy

    def _load(self, given: _Given, before: _Given | None) -> tuple[()]:
        kind, place = self._dialect, str(given.place)
        calls: list[tuple[str, dict[str, Any]]] = [(kind.load, {"lora_name": given.name, "lora_path": place})]
        if not given.adapted:
            calls = [(kind.whole, {"model_path": place, "weight_version": given.name, "flush_cache": True})]
        if calls[0][0] == DIALECTS["vllm"].whole:
            rpc = {"method": "reload_weights", "kwargs": {"weights_path": place}}
            calls = [(kind.whole, rpc), ("/reset_prefix_cache", {})]
        with self.guard(), self._requests.client() as client:
            if before is not None:
                self._forget(client, before)
            for where, content in calls:
                try:
                    self._done(client, where, content)
                except _Refused as error:
                    if given.name in error.words and "already" in error.words:
                        continue  # by an attempt whose reply was lost
                    wanted = kind.start[not given.adapted]
                    start = f"; it has to be started with {wanted}, and" if wanted else "; it has"
                    what = "adapter" if given.adapted else "weights"
                    said = f"{self._who} does not load the {what} in {place}: it {error}{start} to see that folder"
                    raise EngineError(said) from None
        return ()

    def _forget(self, client: Any, given: _Given) -> None:
        """Have the server forget an adapter, if it is there and still has it."""
        if given.adapted:
            with suppress(_Refused, Transient, Failed):
                self._got(client, self._dialect.unload, json.dumps({"lora_name": given.name}))

    def _done(self, client: Any, where: str, content: dict[str, Any]) -> bytes:
        """What the server replies to an order that it is to carry out once."""
        requests = self._requests
        patience = Patience(self.patience, self.now())
        try:
            return requests.repeated(patience, partial(self._got, client, where, json.dumps(content)))
        except Failed as failure:
            raise self._silent(failure) from None

    def _compare(self, policy: Policy, found: Answers, order: Order) -> None:
        """That the answers to the first prompt were drawn from these weights.

        A server may say log-probabilities before the temperature, or after it.
        """
        prompt, rows = order.prompts[0], range(order.n)
        shape = (order.n, bucket(len(prompt), 1) + bucket(order.max_new_tokens, 1))
        tokens, mask, drawn = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
        for i in rows:
            end = len(prompt) + len(found.tokens[i])
            tokens[i, :end], mask[i, :end] = [*prompt, *found.tokens[i]], True
            drawn[i, len(prompt) : end] = True
        theirs = np.concatenate([np.asarray(found.log_probs[i]) for i in rows])
        kinds = [policy] if order.temperature == 1 else [policy, policy.with_temperature(1.0)]
        ours = [sharding.gathered(each.log_probs(tokens, mask))[drawn] for each in kinds]
        apart = min(float(np.mean(np.abs(each - theirs))) for each in ours)
        if not apart <= APART:
            raise EngineError(
                f"{self._who} draws from other weights than it was given: its log-probabilities differ from the "
                f"policy's by {apart:.3g} nats a token, expected at most {APART:g}; it has to serve the model that the "
                "run begins with"
            )

    # ------------------------------------------------------------------------------------------------ answers

    def _asked(self, order: Order) -> tuple[np.ndarray, np.ndarray]:
        """Token ids [B, N], -1 behind the end, and log-probabilities of them."""

        def ask(client: Any, patience: Patience, place: int) -> Answers:
            content = json.dumps(self._content(order, place))
            body = self._requests.repeated(patience, partial(self._got, client, "completions", content))
            return self._read(body, order)

        with self.guard():
            try:
                parts = self._requests.all(ask, range(len(order.prompts)))
            except Failed as failure:
                raise self._silent(failure) from None
            except _Refused as error:
                assert self._given is not None
                if self._given.adapted and (error.status == 404 or self._given.name in error.words):
                    raise _Lost(f" ({error})") from None
                raise EngineError(f"{self._who} {error}") from None
        tokens, log_probs = _blank(order)
        for i, (ids, theirs) in enumerate((a, b) for part in parts for a, b in zip(*part[:2], strict=True)):
            tokens[i, : len(ids)], log_probs[i, : len(ids)] = ids, theirs
        return tokens, log_probs

    def _content(self, order: Order, place: int) -> dict[str, Any]:
        """The fields of a request: all that a server may take from a model's own settings is said."""
        assert self._given is not None
        sglang = self._dialect is DIALECTS["sglang"]
        model = self._given.name if self._given.adapted and not sglang else self._base
        content: dict[str, Any] = {
            "model": model,
            "prompt": list(map(int, order.prompts[place])),
            "n": order.n,
            "max_tokens": order.max_new_tokens,
            "temperature": order.temperature,
            **{"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
            **{"presence_penalty": 0.0, "frequency_penalty": 0.0},
            "logprobs": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "stop_token_ids": list(order.stop_tokens),
        }
        if not order.stop_tokens:
            content["ignore_eos"] = True
        if sglang and self._given.adapted:
            content["lora_path"] = self._given.name
        if self._dialect.seeded or order.n == 1:
            content["seed"] = int(np.random.SeedSequence([*order.seed, place]).generate_state(1)[0] >> 1)
        return content

    def _read(self, body: bytes, order: Order) -> Answers:
        """The answers of a reply, in their order."""
        try:
            reply = json.loads(body)
            choices = sorted(reply["choices"], key=lambda choice: choice["index"])
            version = (reply.get("metadata") or {}).get("weight_version")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            said = refusal(body, self._requests.key).words
            raise EngineError(f"{self._who} gives a reply that is no completion: {said}") from None
        assert self._given is not None
        if not self._given.adapted and version is not None and version != self._given.name:
            raise _Lost(f" (it draws from {version})")
        if self._given.adapted and HANDED_OVER.fullmatch(str(version)):
            raise EngineError(
                f"{self._who} puts the adapter on weights that another run has handed over ({version}); start it again "
                "with the model that this run begins with"
            )
        if len(choices) != order.n:
            raise EngineError(f"{self._who} gives {len(choices)} answers to a prompt, expected {order.n}")
        ids, log_probs = [], []
        for choice in choices:
            ids_of, theirs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
            if not _all(ids_of, int):
                raise EngineError(f"{self._who} gives answers without token ids; {KNOWN}")
            if not _all(theirs, int | float):
                raise EngineError(f"{self._who} gives answers without log-probabilities; {KNOWN}")
            ids.append(ids_of)
            log_probs.append(list(map(float, theirs)))
        found = Answers(ids, log_probs)
        check(found, order._replace(prompts=order.prompts[:1]), self._who)
        return found

    # ------------------------------------------------------------------------------------------------ asking

    @property
    def _who(self) -> str:
        return self._requests.who

    @property
    def _requests(self) -> Requests:
        return Requests(
            "engine",
            self.endpoint,
            self.key_variable,
            self.concurrency,
            self.timeout,
            self.patience,
            MOST_BYTES,
            None,
            self.tell,
            self.now,
            self.sleep,
        )

    @property
    def _hasty(self) -> Requests:
        """Of what nothing depends on any more."""
        return replace(self._requests, timeout=min(self.timeout, SHORT))

    def _got(self, client: Any, where: str, content: str | None) -> bytes:
        """The body of a reply that is a success."""
        version = self.endpoint.rstrip("/")
        host = version.rpartition("/")[0]
        address = f"{host}{where}" if where.startswith("/") else f"{version}/{where}"
        status, retry_after, body = self._requests.sent(client, address, content)
        if 200 <= status < 300:
            return body
        said = refusal(body, self._requests.key)
        if (failure := passing(status, retry_after, said)) is not None:
            raise failure
        raise _Refused(status, said)

    def _silent(self, failure: Failed) -> EngineError:
        """What is said of a server that gives no answer."""
        if failure.sentence:
            return EngineError(f"{self._who} {failure.sentence}")
        why = f" ({failure.__cause__})" if failure.__cause__ else ""
        return EngineError(f"{self._who} gives no answers{why}; it was tried for up to {self.patience:g} seconds")

    def _everywhere(self, action: Callable[[], Any], like: Any) -> Any:
        """What the first process gets, on all of them; arrays like these."""
        found, problem = like, None
        if jax.process_index() == 0:
            try:
                found = action()
            except BaseException as error:  # the others wait for a word
                problem = error
        if jax.process_count() > 1:
            code = np.int32(0 if problem is None else 2 if isinstance(problem, _Lost) else 1)
            code, found = multihost_utils.broadcast_one_to_all((code, found))
            if problem is None and code:
                raise _Lost("") if code == 2 else EngineError(THERE)
        if problem is not None:
            raise problem
        return found


def _blank(order: Order) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(order.prompts) * order.n, order.max_new_tokens)
    return np.full(shape, -1, np.int32), np.zeros(shape, np.float32)


def _all(found: Any, kind: Any) -> TypeGuard[list[Any]]:
    """Whether this is a list of such numbers."""
    return isinstance(found, list) and all(
        isinstance(one, kind) and not isinstance(one, bool) and not math.isnan(one) for one in found
    )
