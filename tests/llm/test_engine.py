"""An engine behind HTTP: it draws from the policy, the update is that of our own draws, and what it breaks is said."""

import itertools
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import llm_bridge as bridge
from llm_bridge.command import serve_command
from llm_bridge.command.serve_command import Completions, Server
from llm_bridge.run import training_log
from llm_bridge.train.engine import Answers, Order, Turn
from llm_bridge.train.http_engine import PREFIX, HttpEngine
from tests.llm.games import CONFIG, PROMPTS, policy
from tests.llm.serving import Clock, running
from tests.llm.test_mpo import KEY, method
from tests.llm.test_mpo_cli import model, mpo, train, work  # noqa: F401 - fixtures

pytest.importorskip("httpx2")
N, LONGEST, V = 1024, 3, 4
SEQUENCES = np.array(list(itertools.product(range(V), repeat=LONGEST)), np.int32)
Fault = Callable[[dict[str, Any]], Any]


class Faulty(Completions):
    """Completions with a fault in the replies.

    Attributes:
        fault: changes a reply to a request for answers, or returns a status in its place; None for none.
        asked: paths of all requests.
    """

    fault: Fault | None = None

    def call(self, path: str, body: bytes) -> tuple[int, Any]:
        self.__dict__.setdefault("asked", []).append(path)
        status, content = super().call(path, body)
        if self.fault is None or path != "/v1/completions" or status != 200:
            return status, content
        changed = self.fault(content)
        return (changed, "no") if isinstance(changed, int) else (status, content if changed is None else changed)


@pytest.fixture
def serve() -> Iterator[Callable[[bridge.Policy], Server]]:
    with running(lambda served: Server(Faulty(served, "base"))) as start:
        yield start


def moved(adapted: bool) -> bridge.Policy:
    """A policy that training has brought far away from `policy()`: an adapter of it, or other weights."""
    if not adapted:
        return bridge.init(CONFIG, jax.random.key(3))
    found = bridge.add_adapter(policy(), jax.random.key(1), rank=2, alpha=8.0)
    far = {name: np.cos(np.arange(array.size, dtype=np.float32)) for name, array in found.arrays().items()}
    arrays = {
        name: jax.device_put(far[name].reshape(array.shape), array.sharding) if ".lora_" in name else array
        for name, array in found.arrays().items()
    }
    return bridge.Policy(found.decoder, arrays, found.origin)


def draw(engine: Any, drawn_from: bridge.Policy, n: int, round: int = 0, prompts: Any = PROMPTS) -> Any:
    """What training gets of an engine: a `Generation` and metrics."""
    like = (drawn_from.decoder, drawn_from.origin)
    return Turn(engine, lambda: drawn_from, round, like).draw(prompts, n, LONGEST, jax.random.fold_in(KEY, round))


def probabilities(of: bridge.Policy, prompt: list[int]) -> np.ndarray:
    """Of every answer to a prompt."""
    rows = np.concatenate([np.tile(np.array(prompt, np.int32), (len(SEQUENCES), 1)), SEQUENCES], axis=1)
    found = np.exp(np.asarray(of.log_probs(rows, np.ones(rows.shape, bool)), float)[:, len(prompt) :].sum(axis=1))
    np.testing.assert_allclose(found.sum(), 1, atol=1e-5)
    return found / found.sum()


# -------------------------------------------------------------------- mathematics


@pytest.mark.parametrize("adapted", [True, False])
def test_answers_of_a_server_are_draws_from_the_policy_that_it_was_given(
    adapted: bool, serve: Any, tmp_path: Path
) -> None:
    """Chi-square against the exact probability of each of 64 answers; what it served before is another policy."""
    server, given = serve(policy()), moved(adapted)
    engine = HttpEngine(server.endpoint, tmp_path)
    found, metrics = draw(engine, given, N)
    assert metrics == {"engine/staleness": 0.0}
    assert found.mask.all()
    places = found.tokens @ V ** np.arange(LONGEST)[::-1]
    for i, prompt in enumerate(PROMPTS):
        mine = places[i * N : (i + 1) * N]
        counts, exact = np.bincount(mine, minlength=len(SEQUENCES)), probabilities(given, prompt)
        few = exact * N < 5  # which a chi-square takes as one
        groups = [np.append(each[~few], each[few].sum()) for each in (counts, exact * N)]
        assert chisquare(*groups).pvalue > 1e-3
        assert chisquare(counts, probabilities(policy(), prompt) * N).pvalue < 1e-9
        np.testing.assert_allclose(
            np.exp(found.log_probs[i * N : (i + 1) * N].sum(axis=1)), exact[mine], rtol=1e-4, atol=0
        )
    engine.close()
    assert not list(tmp_path.iterdir())
    assert [card["id"] for card in server.completions.models()["data"]] == ["base"]


def sampler(order: Order) -> Answers:
    """An engine in this process that draws what training draws by itself, and knows nothing of log-probabilities."""
    key = jax.random.wrap_key_data(jnp.array(order.seed, jnp.uint32))
    prompts = [prompt for prompt in order.prompts for _ in range(order.n)]
    found = order.policy().generate(prompts, key=key, max_new_tokens=order.max_new_tokens)
    ids = [row[marked].tolist() for row, marked in zip(np.array(found.tokens), np.array(found.mask), strict=True)]
    return Answers(ids, [[-1e3] * len(row) for row in ids])


def test_the_same_answers_make_the_same_run_whoever_has_drawn_them_and_whatever_is_said_of_them() -> None:
    """Twenty-one steps; log-probabilities of the engine are wrong on purpose, for none of them is learned from."""
    names = ("loss", "grad_norm", "entropy", "kl/magnet", "kl/step")
    histories = []
    for engine in (None, sampler):
        result = method(engine=engine, decay_rounds=10).fit(policy(), PROMPTS, steps=7, key=KEY)
        histories.append([[metrics[name] for name in names] for metrics in result.history])
    np.testing.assert_allclose(histories[1], histories[0], rtol=0, atol=1e-5)
    assert result.history[0]["sampling/sampling_logp_difference/max"] > 900


@pytest.mark.parametrize("adapted", [True, False])
def test_a_run_draws_from_its_newest_weights_or_from_those_of_so_many_rounds_ago(
    adapted: bool, serve: Any, tmp_path: Path
) -> None:
    """The server's log-probabilities are the trainer's where it has the newest weights, and are not elsewhere."""
    server = serve(policy())
    start = moved(True) if adapted else policy()
    engine = HttpEngine(server.endpoint, tmp_path, max_staleness=1)
    result = method(engine=engine, decay_rounds=4).fit(start, PROMPTS, steps=4, key=KEY)
    assert [metrics["engine/staleness"] for metrics in result.history] == [0, 1, 0, 1]
    apart = [metrics["sampling/sampling_logp_difference/max"] for metrics in result.history]
    assert max(apart[::2]) < 1e-5
    assert min(apart[1::2]) > 1e-3
    loads = "/v1/load_lora_adapter" if adapted else "/update_weights_from_disk"
    assert server.completions.asked.count(loads) == 2
    assert len(list(tmp_path.glob(f"{PREFIX}*"))) == 1  # those that it draws from


def test_a_server_that_was_started_again_is_given_the_weights_again(serve: Any, tmp_path: Path) -> None:
    server, given = serve(policy()), moved(True)
    engine = HttpEngine(server.endpoint, tmp_path, max_staleness=5)
    assert [draw(engine, given, 2, n)[1]["engine/staleness"] for n in (0, 1)] == [0, 1]
    server.completions.call("/v1/unload_lora_adapter", json.dumps({"lora_name": engine._given.name}).encode())
    assert [draw(engine, given, 2, n)[1]["engine/staleness"] for n in (2, 3)] == [0, 1]


# -------------------------------------------------------------------- what goes wrong


def each(change: Callable[[dict[str, Any]], object]) -> Fault:
    """The fault in every answer."""
    return lambda reply: [change(choice) for choice in reply["choices"]] and None


FAULTS: dict[str, tuple[Fault, str]] = {
    "no token ids": (each(lambda one: one.pop("token_ids")), "gives answers without token ids; expected a server that"),
    "no log-probabilities": (
        each(lambda one: one.update(logprobs=None)),
        "gives answers without log-probabilities; ex",
    ),
    "too few": (lambda reply: reply["choices"].pop() and None, "gives 3 answers to a prompt, expected 4"),
    "outside": (
        each(lambda one: one["token_ids"].__setitem__(1, 99)),
        "gives the token 99, which is not in the vocabulary of 4 tokens: it serves another model",
    ),
    "cut": (
        each(lambda one: (one["token_ids"].pop(), one["logprobs"]["token_logprobs"].pop())),
        r"gives an answer that ends after 2 of 3 tokens with the token \d, and the policy's end tokens are none: its",
    ),
    "uneven": (each(lambda one: one["token_ids"].pop()), "gives 3 log-probabilities of an answer of 2 tokens"),
    "empty": (each(lambda one: one.update(token_ids=[])), "gives an answer without a token"),
    "other weights": (
        each(lambda one: one["logprobs"].update(token_logprobs=[-9.0] * LONGEST)),
        r"draws from other weights than it was given: its log-probabilities differ from the policy's by \d",
    ),
    "no completion": (lambda _: "hello", "gives a reply that is no completion: hello"),
    "refused": (lambda _: 413, "answers 413; it says: no"),
    "stale": (
        lambda reply: reply["metadata"].update(weight_version="old"),
        r"has lost the weights that it has just loaded \(it draws from old\)",
    ),
    "broken": (
        lambda _: 503,
        r"gives no answers \(it answers 503\); it was tried for up to 600 seconds",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_server_is_one_sentence(name: str, serve: Any, tmp_path: Path) -> None:
    """One that is broken for good costs the patience, ten minutes of failing, however many prompts wait for it."""
    (fault, said), server, clock = FAULTS[name], serve(policy()), Clock()
    server.completions.fault = fault
    engine = HttpEngine(server.endpoint, tmp_path, now=clock.now, sleep=clock.sleep)
    with pytest.raises(bridge.BridgeError, match=f"^the engine at {server.endpoint} {said}") as error:
        draw(engine, policy(), 4)
    assert "\n" not in str(error.value)
    assert clock.seconds <= (600 + 2 * 30) * len(PROMPTS)  # the clock adds up what the requests sleep side by side
    assert name != "broken" or clock.seconds > 600


def test_a_server_that_is_away_for_minutes_is_waited_for(serve: Any, tmp_path: Path) -> None:
    """Nine minutes of a clock that only waiting moves."""
    server, clock = serve(policy()), Clock()
    server.completions.fault = lambda _: 503 if clock.seconds < 540 else None
    found, _ = draw(HttpEngine(server.endpoint, tmp_path, now=clock.now, sleep=clock.sleep), policy(), 4)
    assert found.mask.all()
    assert clock.seconds >= 540


def test_an_adapter_is_not_drawn_on_the_weights_that_another_run_has_left(serve: Any, tmp_path: Path) -> None:
    """A run of whole weights leaves them at the server; log-probabilities alone may differ too little to tell."""
    server = serve(policy())
    engine = HttpEngine(server.endpoint, tmp_path / "whole")
    draw(engine, policy(), 4)
    engine.close()
    with pytest.raises(bridge.BridgeError, match=r"puts the adapter on weights that another run has handed over \(wei"):
        draw(HttpEngine(server.endpoint, tmp_path / "adapted"), moved(True), 4)


def test_what_a_killed_run_has_left_is_removed_and_nothing_else(serve: Any, tmp_path: Path) -> None:
    """Its folders, and its adapters from the server; a folder of somebody else's is theirs."""
    server, mine = serve(policy()), tmp_path / "weights-final"
    mine.mkdir()
    (mine / "model.safetensors").write_text("precious")
    draw(HttpEngine(server.endpoint, tmp_path), moved(True), 4)  # and is killed
    assert len(server.completions.models()["data"]) == 2
    HttpEngine(server.endpoint, tmp_path).dry_run(policy())
    assert [card["id"] for card in server.completions.models()["data"]] == ["base"]
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert (mine / "model.safetensors").read_text() == "precious"


def test_a_server_that_cannot_be_used_is_named_before_the_first_round(serve: Any, tmp_path: Path) -> None:
    server = serve(policy())
    with pytest.raises(bridge.BridgeError, match=r"has no model 'other', it serves base$"):
        HttpEngine(server.endpoint, tmp_path, "other").dry_run(policy())
    with pytest.raises(bridge.BridgeError, match=r"answers 404; it says: .*; expected an address up to the version"):
        HttpEngine(server.endpoint.replace("v1", "v2"), tmp_path).dry_run(policy())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with pytest.raises(bridge.BridgeError, match=f"^the engine at {address} cannot be asked "):
            HttpEngine(address, tmp_path, sleep=lambda _: None, now=itertools.count().__next__).dry_run(policy())
    other = serve(bridge.init(CONFIG | {"hidden_size": 8}, jax.random.key(0)))
    with pytest.raises(bridge.BridgeError, match=r"does not load the adapter in .*: it answers 400; it says: .* shape"):
        draw(HttpEngine(other.endpoint, tmp_path), moved(True), 2)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------- the commands


def test_a_run_whose_engine_dies_goes_on_when_it_is_there_again(
    model: Path,  # noqa: F811
    work: Path,  # noqa: F811
    serve: Any,
    capsys: Any,
) -> None:
    """With end tokens, adapters and a temperature: told to stop in round 3, refused in round 4, and then done."""
    server = serve(bridge.load(model))
    words = ("--quiet", "--lora-r", 2, "--temperature", 0.7, "--engine", server.endpoint, "--save-steps", 1)
    done = {2: lambda: os.kill(os.getpid(), signal.SIGTERM), 3: lambda: 413}

    def happens(reply: dict[str, Any]) -> Any:
        rounds = len(training_log.rows("run/metrics.jsonl"))
        return done.pop(rounds, lambda: None)()

    server.completions.fault = happens
    assert train(model, "run", *words) == 143
    assert "told to stop by SIGTERM, rounds up to 2 are saved; --resume goes on\n" in capsys.readouterr().err
    assert train(model, "run", *words, "--resume") == 2
    assert capsys.readouterr().err == f"mpo: the engine at {server.endpoint} answers 413; it says: no\n"
    assert train(model, "run", *words, "--resume") == 0
    rows = training_log.rows("run/metrics.jsonl")
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert {row["engine/staleness"] for row in rows} == {0}
    assert max(row["sampling/sampling_logp_difference/max"] for row in rows) < 1e-4
    assert not list(Path("run/engine").iterdir())
    assert (work / "run" / "policy" / "adapter_model.safetensors").exists()


BAD = {
    "--engine localhost:8000": "expected the engine to be http(s)://host/v1, without user, query or fragment",
    "--max-staleness 2": "--max-staleness is for an engine, expected --engine http(s)://host/v1 with it",
    "--engine http://h/v1 --max-staleness -1": "expected --max-staleness >= 0, got -1",
    "--engine http://h/v1 --method nash-md": "expected no --engine, NashMD does not learn from draws of the policy al",
    "--engine http://h/v1 --engine-timeout 0": "expected --engine-timeout > 0, got 0.0",
}


@pytest.mark.parametrize("line", BAD)
def test_options_that_cannot_be_are_refused(line: str, model: Path, work: Path, capsys: Any) -> None:  # noqa: F811
    assert train(model, "run", *line.split()) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"mpo: {BAD[line]}")
    assert said.err.count("\n") == 1
    assert not os.path.exists("run")


def test_a_client_that_sends_less_than_it_said_is_not_waited_for_for_ever(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_command._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", serve(policy()).server_port), timeout=20) as client:
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: here\r\nContent-Length: 20\r\n\r\n{}")
        reply = client.makefile("rb").read()  # until the server hangs up
    assert reply.split()[1] == b"408"
    assert b"the rest of the request has not come for 0.2 seconds" in reply


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("Content-Length: -1", 400),
        ("Content-Length: abc", 400),
        ("Content-Length: +2", 400),
        (f"Content-Length: {1 << 27}", 413),
        (f"Content-Length: {'9' * 5000}", 413),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", 411),
        ("Accept: */*", 411),
        ("Content-Length: 2", 400),  # and it is no completion
    ],
)
def test_a_body_whose_length_is_not_known_is_refused_without_reading_it(head: str, status: int, serve: Any) -> None:
    """A reply comes while the client still keeps the connection open."""
    with socket.create_connection(("127.0.0.1", serve(policy()).server_port), timeout=20) as client:
        client.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: here\r\n{head}\r\n\r\n{{}}".encode())
        reply = client.makefile("rb").readline()
    assert reply.split()[1] == str(status).encode()


def test_a_server_answers_text_as_the_policy_does_and_refuses_what_it_cannot(
    model: Path,  # noqa: F811
    work: Path,  # noqa: F811
    capsys: Any,
) -> None:
    served, words = bridge.load(model), bridge.Tokenizer(model)
    completions = Completions(served, "m")

    def post(path: str = "/v1/completions", **content: Any) -> tuple[int, Any]:
        return completions.call(path, json.dumps(content).encode())

    status, reply = post(prompt="a b", n=3, seed=5, max_tokens=4, logprobs=0, return_token_ids=True)
    ids = words.encode("a b")
    found = served.generate([ids] * 3, key=jax.random.key(5), max_new_tokens=4)
    assert status == 200
    for choice, row, marked, theirs in zip(reply["choices"], *map(np.asarray, found[:3]), strict=True):
        assert choice["token_ids"] == row[marked].tolist()
        assert choice["prompt_token_ids"] == ids
        np.testing.assert_allclose(choice["logprobs"]["token_logprobs"], theirs[marked], atol=1e-6)
        assert (choice["finish_reason"] == "stop") == (row[marked][-1] in served.origin.stop_tokens)
    assert post(prompt=[1], model="other") == (404, {"error": {
        "message": "The model `other` does not exist.", "type": "NotFoundError", "param": None, "code": 404,
    }})  # fmt: skip
    for said, content in {
        "stream = True is not supported": {"prompt": [1], "stream": True},
        "expected one prompt, token ids or text": {"prompt": [[1], [2]]},
        "token 99 is not in the vocabulary of 12 tokens": {"prompt": [99]},
        "expected top_k >= 1 or None, got -2": {"prompt": [1], "top_k": -2},
        "expected stop_token_ids to be a list of token ids, got 5": {"prompt": [1], "stop_token_ids": 5},
        "expected stop_token_ids to be a list of token ids, got [True]": {"prompt": [1], "stop_token_ids": [True]},
        "expected a text model, got [1]": {"prompt": [1], "model": [1]},
        "expected a text prompt, got '\\ud800'": {"prompt": "\ud800"},
        "expected max_tokens to be an integer, got True": {"prompt": [1], "max_tokens": True},
        "expected top_p to be a number, got True": {"prompt": [1], "top_p": True},
        "expected temperature to be a number, got '1'": {"prompt": [1], "temperature": "1"},
        "expected seed to be an integer, got 1.5": {"prompt": [1], "seed": 1.5},
        "expected an integer n from 1 to 16,384, got 0": {"prompt": [1], "n": 0},
        "expected an integer n from 1 to 16,384, got 1000000000": {"prompt": [1], "n": 10**9},
    }.items():
        status, reply = post(**content)
        assert (status, reply["error"]["message"]) == (400, said)
    for path, name in (("load_lora_adapter", "lora_path"), ("load_lora_adapter", "lora_name")):
        assert post(f"/v1/{path}", **{"lora_name": "a", "lora_path": "b", name: "\ud800"})[0] == 400
    assert post("/update_weights_from_disk", model_path="a\0")[0] == 400
    for depth in (900, 10_000, 1_000_000):
        for body in (b"[" * depth, b'{"prompt": [1], "stop": ' + b"[" * depth + b"]" * depth + b"}"):
            assert completions.call("/v1/completions", body)[0] == 400
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert mpo("serve", model, "--port", port) == 2
        assert f"127.0.0.1:{port}: cannot be served (Address already in use)" in capsys.readouterr().err
