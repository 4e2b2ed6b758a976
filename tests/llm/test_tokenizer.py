"""One BOS, a prompt that stays a prefix, EOS once, masks from places; templates that try to escape are stopped."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

import llm_bridge as bridge
from llm_bridge.text.tokenizer import plain_messages
from tests.llm.games import CONFIG, policy

WORDS = ["<pad>", "<s>", "</s>", "<user>", "<bot>", "a", "b", "c", "ab", "abc", " ", "<unk>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<user>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


def tokenizer(folder: Path, *, bos: bool = True, template: str | None = TEMPLATE, eos: str | None = "</s>") -> Path:
    """A folder with a byte-pair tokenizer that merges across the border of prompt and completion."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, [("a", "b"), ("ab", "c")], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(["<pad>", "<s>", "</s>", "<user>", "<bot>"])
    if bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": eos, "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"unk_token": "<unk>"}))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_policy_knows_the_tokenizer_of_its_folder(tmp_path: Path) -> None:
    words = tokenizer(tmp_path / "words")
    (words / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(WORDS)}))
    found = bridge.init(words, jax.random.key(0)).tokenizer
    assert found is not None
    assert found.prompt("a b") == bridge.Tokenizer(words).prompt("a b")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps(CONFIG))
    assert bridge.init(tmp_path / "bare", jax.random.key(0)).tokenizer is None
    assert policy().tokenizer is None


MESSAGES = [{"role": "user", "content": "a b"}]


@pytest.mark.parametrize("bos", [True, False])
def test_a_prompt_begins_with_bos_once_and_stays_a_prefix(bos: bool, tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path, bos=bos))
    assert found.prompt("a b") == [1] * bos + [5, 6]
    assert found.prompt("<s>a b") == [1, 5, 6]
    assert found.prompt(MESSAGES) == [1, 3, 5, 6, 4]
    ids, n = found.completed("a", "bc")
    assert ids[:n] == found.prompt("a")
    assert ids == [1] * bos + [5, 6, 7, 2]  # joined, the text would be one token: abc
    assert found.encode("abc") == [9]
    assert found.completed("a", "b</s>")[0] == [1] * bos + [5, 6, 2]
    assert found.completed("a", "b", ended=False)[0] == [1] * bos + [5, 6]
    assert found.decode([1, 5, 2]) == "a"
    assert found.decode([1, 5, 2], special=True) != "a"


def test_masks_say_where_ids_were_put(tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path))
    tokens, mask = found.batch([[1, 0, 5], [1]])
    np.testing.assert_array_equal(tokens, [[1, 0, 5], [1, 0, 0]])
    np.testing.assert_array_equal(mask, [[True, True, True], [True, False, False]])


def test_no_template_two_bos_no_eos(tmp_path: Path) -> None:
    plain = bridge.Tokenizer(tokenizer(tmp_path / "plain", template=None, eos=None))
    with pytest.raises(bridge.BridgeError, match="has no chat template"):
        plain.prompt(MESSAGES)
    with pytest.raises(bridge.BridgeError, match="no EOS token"):
        plain.completed("a", "b")
    twice = bridge.Tokenizer(tokenizer(tmp_path / "twice", template="{{ bos_token }}" + TEMPLATE))
    with pytest.raises(bridge.BridgeError, match="BOS twice"):
        twice.prompt(MESSAGES)
    with pytest.raises(bridge.BridgeError, match="expected a folder with"):
        bridge.Tokenizer(tmp_path / "nothing")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(bridge.BridgeError, match="has no tokenizer"):
        bridge.Tokenizer(tmp_path / "nothing")


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('two roles') }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str, tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path, template=template))
    with pytest.raises(bridge.BridgeError, match="refuses these messages"):
        found.prompt(MESSAGES)


def test_named_templates_without_a_default(tmp_path: Path) -> None:
    folder = tokenizer(tmp_path, template=None)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = [{"name": name, "template": TEMPLATE + name} for name in ("chat", "tools")]
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
    found = bridge.Tokenizer(folder)
    with pytest.raises(bridge.BridgeError, match=r"refuses these messages .*chat.*tools"):
        found.prompt(MESSAGES)
    assert found.render(MESSAGES, chat_template="chat") == "<s><user>a b<bot>chat"


def test_arguments_of_a_template(tmp_path: Path) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path, template=TEMPLATE + "{% if enable_thinking %}c{% endif %}"))
    assert found.prompt(MESSAGES, enable_thinking=False) == [1, 3, 5, 6, 4]
    assert found.prompt(MESSAGES, enable_thinking=True) == [1, 3, 5, 6, 4, 7]
    assert found.completed(MESSAGES, "a", enable_thinking=True) == ([1, 3, 5, 6, 4, 7, 5, 2], 6)
    for name in ("enable_thoughts", "tokenize", "add_generation_prompt"):
        with pytest.raises(bridge.BridgeError, match=f"does not ask for {name}"):
            found.prompt(MESSAGES, **{name: True})
    for word in ("false", "True"):
        with pytest.raises(bridge.BridgeError, match=f"enable_thinking is the text .* expected {word.lower()} without"):
            found.prompt(MESSAGES, enable_thinking=word)
    with pytest.raises(bridge.BridgeError, match="text goes through no chat template, which enable_thinking"):
        found.prompt("a b", enable_thinking=False)


UNASKED = "{# mode #}{% set depth = 3 %}{{ 'style' }}{% for turn in messages %}{{ turn.name }}{% endfor %}"


def test_a_template_asks_for_what_it_is_given_from_outside_only(tmp_path: Path) -> None:
    """Words in comments, texts and attributes, and names that the template sets itself, are no arguments."""
    template = TEMPLATE + UNASKED + "{% set size = size | default(2) %}{% if day is not defined %}{% endif %}"
    found = bridge.Tokenizer(tokenizer(tmp_path, template=template))
    for name in ("mode", "depth", "style", "turn", "name"):
        with pytest.raises(bridge.BridgeError, match=f"does not ask for {name}"):
            found.prompt(MESSAGES, **{name: 1})
    assert found.prompt(MESSAGES, size=1, day="a") == found.prompt(MESSAGES)


def test_parts_of_a_message_are_joined(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert bridge.Tokenizer(tokenizer(tmp_path)).prompt([{"role": "user", "content": parts}]) == [1, 3, 5, 6, 4]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (None, "text or a list of messages, got 'None'"),
        (3, "text or a list of messages, got '3'"),
        ([], "text or a list of messages"),
        ({"role": "user", "content": "a"}, "text or a list of messages"),
        (["a", "b"], "message 0: expected an object with a role and a content, got 'a'"),
        ([{"content": "a"}], "message 0: expected an object with a role"),
        ([{"role": "user", "content": 3}], "message 0: expected a content that is text, got '3'"),
        ([{"role": "user", "content": [{"type": "image", "url": "a"}]}], "message 0: expected parts"),
    ],
)
def test_what_is_no_conversation(messages: object, words: str) -> None:
    with pytest.raises(bridge.BridgeError, match=words):
        plain_messages(messages)


def test_what_is_no_token_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bridge.Tokenizer(tokenizer(tmp_path))
    with pytest.raises(bridge.BridgeError, match=r"token ids >= 0, got \[ 5 -1\]"):
        found.decode([5, -1])
    with pytest.raises(bridge.BridgeError, match="made without a tokenizer"):
        bridge.Tokenizer(None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    assert bridge.Tokenizer("somebody/model").prompt("a b") == [1, 5, 6]


def test_a_tokenizer_that_brings_code_is_refused(tmp_path: Path) -> None:
    folder = tokenizer(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}))
    with pytest.raises(bridge.BridgeError, match="run code"):
        bridge.Tokenizer(folder)
