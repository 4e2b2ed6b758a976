"""Chats in the `mpo` command: what reaches the template, what is written of a chat, and names as people type them."""

import json
from pathlib import Path
from typing import Any

import jax
import pytest

import llm_bridge as bridge
from llm_bridge.command import answering, commands, method_choice, options
from llm_bridge.command.cli import main
from llm_bridge.command.options import METHODS
from llm_bridge.train.baselines.iterative_dpo import IterativeDPO
from llm_bridge.train.objective import Regression
from mmd.host.command_line import parse
from tests.llm.test_data import lines
from tests.llm.test_mpo_cli import CONFIG
from tests.llm.test_templates import published

CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "how?"}]
THINKS = {"enable_thinking": True}


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a ChatML template."""
    words = tmp_path_factory.mktemp("chat") / "words"
    published("chatml on a base model", words, **(CONFIG | {"vocab_size": 259, "max_position_embeddings": 512}))
    return bridge.save(bridge.init(words, jax.random.key(5)), words.parent / "tiny")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "chats.jsonl", {"prompt": CHAT}, {"prompt": CHAT[1:], "chat_template_kwargs": THINKS})
    return tmp_path


def test_a_chat_is_shown_as_its_template_writes_it_and_stays_a_chat(
    chatty: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In answers as messages, which `mpo eval` and any reader of conversations take back."""
    drawn: list[Any] = []
    monkeypatch.setattr(answering, "draw", lambda _, prompts, *rest: drawn.extend(prompts) or [["fine"]] * len(prompts))
    line = ["--dataset-name", "chats.jsonl", "--max-new-tokens", "2"]
    without = ["--chat-template-kwargs", '{"enable_thinking": false}']
    made = ["generate", "--model-name-or-path", str(chatty), *line, "--output-file", "a.jsonl"]
    assert main([*made, *without]) == 0
    words = bridge.Tokenizer(chatty)
    expected = [words.prompt(CHAT, enable_thinking=False), words.prompt(CHAT[1:], **THINKS)]  # a row's own wins
    assert [list(prompt) for prompt in drawn] == expected
    shown = words.render(CHAT, enable_thinking=False).encode("unicode_escape").decode()
    assert f"text {shown}\n" in capsys.readouterr().out
    rows = [json.loads(row) for row in Path("a.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [CHAT, CHAT[1:]]
    (work / "judges_of_chats.py").write_text("def even(prompts, a, b):\n    return [0.5] * len(a)\n")
    models = ["eval", "one=a.jsonl", f"two={chatty}", *line, *without, "--judge", "judges_of_chats:even"]
    assert main([*models, "--output-dir", "out"]) == 0
    assert Path("out/two.jsonl").read_bytes() == Path("a.jsonl").read_bytes()
    lines(work / "b.jsonl", {"prompt": 3, "response": "a"})
    assert main(["eval", "one=a.jsonl", "two=b.jsonl", *line, "--judge", "judges_of_chats:even"]) == 2
    assert "b.jsonl:1: expected a 'prompt', text or messages, and a text 'response'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "expected --chat-template-kwargs to be a JSON object, such as '{\"enable_thinking\": false}', got '{'"),
        ("[1]", "expected --chat-template-kwargs to be a JSON object"),
        ('{"thinks": true}', "chats.jsonl:1: ...the chat template does not ask for thinks"),
    ],
)
def test_arguments_that_no_template_takes(given: str, words: str, chatty: Path, work: Path, capsys: Any) -> None:
    line = "generate --dataset-name chats.jsonl --output-file a.jsonl --max-new-tokens 2 --model-name-or-path"
    made = [*line.split(), str(chatty)]
    assert main([*made, "--chat-template-kwargs", given]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in words.split("..."))
    assert said.count("\n") == 1
    lines(work / "text.jsonl", {"prompt": "how?"})
    made[made.index("chats.jsonl")] = "text.jsonl"
    assert main([*made, "--chat-template-kwargs", '{"enable_thinking": true}']) == 2
    assert "text.jsonl:1: a prompt that is text goes through no chat template" in capsys.readouterr().err


def parsed(*words: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    seen: list[Any] = []
    monkeypatch.setattr(commands, "run", lambda command, argv: seen.append(command) or 0)
    assert main(["train", *words]) == 0
    return seen[0]


NEEDED = ["--model-name-or-path", "m", "--dataset-name", "d.jsonl", "--output-dir", "o"]


def test_arguments_of_a_template_stand_in_yaml_as_text_or_as_an_object(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("{enable_thinking: false}", "'{\"enable_thinking\": false}'"):
        (work / "c.yaml").write_text(f"chat_template_kwargs: {text}\n")
        found = parsed("--config", "c.yaml", *NEEDED, monkeypatch=monkeypatch)
        assert json.loads(found.chat_template_kwargs) == {"enable_thinking": False}


def test_names_take_both_dashes_and_help_lists_the_methods(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = [parsed(*NEEDED, "--method", name, monkeypatch=monkeypatch) for name in ("iterative-dpo", "iterative_dpo")]
    assert found[0] == found[1]
    assert isinstance(method_choice.method_of(found[0]), IterativeDPO)
    words = [*NEEDED, "--set", "estimator=regression", "watch-start=false"]
    method = method_choice.method_of(parsed(*words, monkeypatch=monkeypatch))
    assert (method.estimator, method.watch_start) == (Regression(), False)
    for name in ("policy_gradient_with_credit", "policy-gradient-with-credit"):
        method = method_choice.method_of(parsed(*NEEDED, "--set", f"estimator={name}", monkeypatch=monkeypatch))
        assert method.estimator.credit
    assert method_choice.method_of(parsed(*NEEDED, "--spread-draws", monkeypatch=monkeypatch)).spread_draws
    assert METHODS == ("mpo", "egpo", "inpo", "iterative_dpo", "nash_md", "online_ipo", "self_play", "sft", "sppo")
    capsys.readouterr()
    assert parse(["train", "--help"], options.PROGRAM) is None
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told for name in METHODS)
