"""`mpo serve`: a model behind the completions protocol of vLLM, as far as `mpo train --engine` speaks it.

    GET  /v1/models                   the model, and the adapters that are loaded
    POST /v1/completions              token ids or text in, token ids, text and log-probabilities out
    POST /v1/load_lora_adapter        lora_name, lora_path: a folder with an adapter of the model
    POST /v1/unload_lora_adapter      lora_name
    POST /update_weights_from_disk    model_path, weight_version: other weights of the same model (SGLang's call)

It is there to try the protocol on one machine, and for tests: one request is answered after the other, by
`Policy.generate`. Log-probabilities are those of the distribution that was drawn from, after temperature and cuts.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llm_bridge.checkpoint import adapters, loading
from llm_bridge.command.options import Serve
from llm_bridge.command.train_commands import policy_of
from llm_bridge.model.architecture import BridgeError
from llm_bridge.policy.policy import Policy
from mmd.host.command_line import UsageError

DONE, OWNER = 0, "magnetic-mirror"
FIRST_VERSION, MOST_BYTES = "default", 1 << 26
MOST_ANSWERS = 16_384  # to a prompt, as vLLM has it
# Fields that would change what is drawn or replied, with the values that change nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (None, False),
    "stream": (None, False),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "stop": (None, "", []),
    "logit_bias": (None, {}),
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "use_beam_search": (None, False),
}
# Numbers of a request; true and false are none.
NUMBERS: dict[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "n": (int,),
    "seed": (int,),
    "top_k": (int,),
    "temperature": (int, float),
    "top_p": (int, float),
}
Say = Callable[[Iterable[str]], None]


class _Refused(Exception):
    """A request is not carried out; the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        prompt: token ids.
        n: answers.
        seed: of the draws.
        stop: end tokens.
        settings: further arguments of `Policy.generate`.
    """

    prompt: list[int]
    n: int
    seed: int
    stop: list[int]
    settings: dict[str, Any]


class Completions:
    """A policy, and adapters of it by name; calls from several threads are answered one after the other.

    Args:
        policy: without an adapter of its own, where adapters are to be loaded.
        name: what requests call it.
    """

    def __init__(self, policy: Policy, name: str) -> None:
        self._policy, self._name, self._version = policy, name, FIRST_VERSION
        self._adapters: dict[str, Policy] = {}
        self._lock = threading.Lock()
        self.calls: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/v1/completions": self._complete,
            "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload,
            "/update_weights_from_disk": self._update,
        }

    def call(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and content of the reply to a POST."""
        try:
            if path not in self.calls:
                raise _Refused(404, f"there is nothing at {path}")
            content = _object(body)
            with self._lock:
                return 200, self.calls[path](content)
        except _Refused as error:
            return error.status, _error(error.status, str(error))
        except BridgeError as error:
            return 400, _error(400, str(error))
        except RecursionError:
            return 400, _error(400, "expected a JSON object that is not nested so deep")

    def models(self) -> dict[str, Any]:
        """The models by the protocol."""
        known = {"object": "model", "owned_by": OWNER, "max_model_len": self._policy.architecture.cached_length}
        cards = [{"id": self._name, "parent": None, **known}]
        cards += [{"id": name, "parent": self._name, **known} for name in self._adapters]
        return {"object": "list", "data": cards}

    def _complete(self, content: dict[str, Any]) -> dict[str, Any]:
        name = _text(content, "model") if "model" in content else self._name
        policy = self._policy if name == self._name else self._adapters.get(name)
        if policy is None:
            raise _Refused(404, f"The model `{name}` does not exist.")
        wanted = _wanted(content, policy)
        found = policy.generate(
            [wanted.prompt] * wanted.n, key=jax.random.key(wanted.seed), stop=wanted.stop, **wanted.settings
        )
        tokens, mask, log_probs = (np.asarray(part) for part in (found.tokens, found.mask, found.sampling_log_probs))
        choices = []
        for i, (row, marked, theirs) in enumerate(zip(tokens, mask, log_probs, strict=True)):
            ids = row[marked].tolist()
            choices.append(_choice(i, ids, theirs[marked].tolist(), content, wanted, policy))
        n_drawn = int(mask.sum())
        usage = {"prompt_tokens": len(wanted.prompt), "completion_tokens": n_drawn}
        return {
            "id": f"cmpl-{os.urandom(8).hex()}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
            "choices": choices,
            "usage": usage | {"total_tokens": sum(usage.values())},
            "metadata": {"weight_version": self._version},
        }

    def _load(self, content: dict[str, Any]) -> str:
        name, place = _text(content, "lora_name"), _text(content, "lora_path")
        if name in self._adapters:
            raise _Refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not Path(place).is_dir():
            raise _Refused(404, f"there is no folder {place}")
        self._adapters[name] = adapters.load_adapter(self._policy, place)
        return f"Success: LoRA adapter '{name}' added successfully."

    def _unload(self, content: dict[str, Any]) -> str:
        if self._adapters.pop(name := _text(content, "lora_name"), None) is None:
            raise _Refused(404, f"The lora adapter '{name}' cannot be found.")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def _update(self, content: dict[str, Any]) -> dict[str, Any]:
        old, place = self._policy, _text(content, "model_path")
        new = loading.load(place, mesh=old.mesh, dtype=old.weights["embedding"].dtype, compute=old.decoder.compute)
        if new.architecture != old.architecture:
            raise _Refused(400, f"{place}: another model than {self._name}")
        self._policy, self._version = new, str(content.get("weight_version") or FIRST_VERSION)
        self._adapters.clear()
        return {"success": True, "message": f"Succeeded to update model weights from {place}."}


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _Refused(400, "expected a JSON object")
    return content


def _wanted(content: Mapping[str, Any], policy: Policy) -> _Wanted:
    """What a request asks for; whatever would change nothing is not looked at."""
    for name, neutral in NEUTRAL.items():
        if content.get(name) not in neutral:
            raise _Refused(400, f"{name} = {content[name]!r} is not supported")
    prompt = content.get("prompt")
    if isinstance(prompt, str):
        prompt = _text(content, "prompt")
        if policy.tokenizer is None:
            raise _Refused(400, "the model has no tokenizer, expected the prompt as token ids")
        prompt = list(policy.tokenizer.encode(prompt))
    if not isinstance(prompt, list) or not all(type(one) is int for one in prompt):
        raise _Refused(400, "expected one prompt, token ids or text")
    stop = content.get("stop_token_ids") or []
    if not isinstance(stop, list) or not all(type(one) is int for one in stop):
        raise _Refused(400, f"expected stop_token_ids to be a list of token ids, got {stop!r}")
    for name, kinds in NUMBERS.items():
        if (value := content.get(name)) is not None and type(value) not in kinds:
            wanted = "a number" if float in kinds else "an integer"
            raise _Refused(400, f"expected {name} to be {wanted}, got {value!r}")
    stop = [*stop, *(() if content.get("ignore_eos") else policy.origin.stop_tokens)]
    seed, top_k, top_p = (content.get(name) for name in ("seed", "top_k", "top_p"))
    settings = {
        "max_new_tokens": content.get("max_tokens", 16),
        "temperature": content.get("temperature", 1.0),
        "top_k": None if top_k in (None, 0, -1) else top_k,
        "top_p": None if top_p in (None, 1) else top_p,
    }
    n = content.get("n", 1)
    if n is None or not 1 <= n <= MOST_ANSWERS:
        raise _Refused(400, f"expected an integer n from 1 to {MOST_ANSWERS:,}, got {n!r}")
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed % 2**32
    return _Wanted(prompt, n, seed, stop, settings)


def _choice(
    index: int, ids: Sequence[int], log_probs: list[float], content: Mapping[str, Any], wanted: _Wanted, policy: Policy
) -> dict[str, Any]:
    """An answer by the protocol."""
    ended, words = bool(ids) and ids[-1] in wanted.stop, policy.tokenizer
    shown = ids[:-1] if ended else ids
    found: dict[str, Any] = {
        "index": index,
        "text": "" if words is None else words.decode(shown),
        "finish_reason": "stop" if ended else "length",
        "stop_reason": None,
        "logprobs": None,
    }
    if content.get("logprobs") is not None:
        found["logprobs"] = {"tokens": [f"token_id:{one}" for one in ids], "token_logprobs": log_probs}
    if content.get("return_token_ids"):
        found |= {"token_ids": list(ids), "prompt_token_ids": wanted.prompt}
    return found


def _text(content: Mapping[str, Any], name: str) -> str:
    found = content.get(name)
    try:
        if isinstance(found, str) and found.encode() and "\0" not in found:
            return found
    except UnicodeEncodeError:  # half of a surrogate pair
        pass
    raise _Refused(400, f"expected a text {name}, got {found!r}")


def _error(status: int, text: str) -> dict[str, Any]:
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    return {"error": {"message": text, "type": kind, "param": None, "code": status}}


class Server(ThreadingHTTPServer):
    """Completions on a port.

    Args:
        completions: what is served.
        place: host and port; port 0 for any that is free.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, completions: Completions, place: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.completions = completions
        super().__init__(place, _Handler)

    @property
    def endpoint(self) -> str:
        """The address up to and including the version."""
        return f"http://{self.server_address[0]}:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are no news."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60.0  # seconds that a client may be silent
    server: Server  # pyrefly: ignore[bad-override-mutable-attribute]

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def do_GET(self) -> None:
        """A model's name, or a sign of life."""
        if self.path in ("/health", "/v1/models"):
            self.reply(200, self.server.completions.models() if self.path == "/v1/models" else {})
        else:
            self.reply(404, _error(404, f"there is nothing at {self.path}"))

    def do_POST(self) -> None:
        """Everything else."""
        try:
            status, content = self.server.completions.call(self.path, self.rfile.read(self.length()))
        except _Refused as error:
            self.close_connection = True  # where the next request would begin is not known
            status, content = error.status, _error(error.status, str(error))
        except TimeoutError:
            self.close_connection = True
            status, content = 408, _error(408, f"the rest of the request has not come for {self.timeout:g} seconds")
        except Exception as error:  # the server goes on
            status, content = 500, _error(500, f"{type(error).__name__}: {error}")
        self.reply(status, content)

    def length(self) -> int:
        """Bytes of the request's body.

        Raises:
            _Refused: they are not said, or are too many.
        """
        said = self.headers.get("Content-Length")
        if said is None or "Transfer-Encoding" in self.headers:
            raise _Refused(411, "expected the body's length as Content-Length, and the body in one piece")
        if not (said.isascii() and said.isdecimal()):
            raise _Refused(400, f"expected Content-Length to be a number of bytes, got {said!r}")
        if len(said) > len(str(MOST_BYTES)) or int(said) > MOST_BYTES:
            raise _Refused(413, f"expected at most {MOST_BYTES:,} bytes")
        return int(said)

    def reply(self, status: int, content: Any) -> None:
        """Send JSON, or a text as it is."""
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(options: Serve, argv: Sequence[str], say: Say) -> int:
    """`mpo serve`; it ends with the process.

    Raises:
        UsageError: the port cannot be had.
    """
    policy, name = policy_of(options), options.name or options.model_name_or_path
    try:
        server = Server(Completions(policy, name), (options.host, options.port))
    except OSError as error:
        wanted = "choose another --host or --port"
        raise UsageError(f"{options.host}:{options.port}: cannot be served ({error.strerror}); {wanted}") from None
    say([f"{name} is served at {server.endpoint}; mpo train --engine {server.endpoint} draws from it"])
    with server:
        server.serve_forever()
    return DONE
