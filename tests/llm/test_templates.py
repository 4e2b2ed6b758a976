"""Twelve forms of chat template: one BOS, the prompt a prefix, one end trained per completed answer (R16).

The forms are those in use: headers with and without names, an EOS that also ends turns, BOS from the template, from the
tokenizer, from both or from neither, thoughts that the header opens. The golden tokens are written out by hand.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

import llm_bridge as bridge
from llm_bridge.text import data, encoding

SPECIAL = ["[BOS]", "[EOS]", "[END]", "[HEAD]", "[TAIL]", "[INST]", "[/INST]", "[USER]", "[BOT]", "[SYS]", "[THINK]"]
WORDS = ["system", "user", "assistant", "model", "human", ":", "###", "be", "brief", "hi", "yes", "[/THINK]", "<unk>"]
LOOP = "{%% for m in messages %%}%s{%% endfor %%}"
ASK = "{%% if add_generation_prompt %%}%s{%% endif %%}"


class Case(NamedTuple):
    """A template, the tokenizer's special tokens, and what [system "be brief", user "hi"] becomes.

    Attributes:
        template: of one turn, and of the answer's header.
        golden: tokens of the prompt.
        bos, eos: None for a tokenizer without.
        end: the special token with which the template ends a turn; None where it has none, and EOS ends the answer.
        adds_bos: whether encoding puts BOS in front by itself.
    """

    template: tuple[str, str, str]  # before, each turn, header of the answer
    golden: str
    bos: str | None = "[BOS]"
    eos: str = "[EOS]"
    adds_bos: bool = False
    end: str | None = None


TURN = "[HEAD] {{ m.role }} [TAIL] {{ m.content }} [END] "
CASES = {
    "headers, EOS ends turns": Case(
        ("", TURN, "[HEAD] assistant [TAIL]"),
        "[HEAD] system [TAIL] be brief [END] [HEAD] user [TAIL] hi [END] [HEAD] assistant [TAIL]",
        bos=None,
        eos="[END]",
    ),
    "headers after BOS": Case(
        ("{{ bos_token }} ", TURN, "[HEAD] assistant [TAIL]"),
        "[BOS] [HEAD] system [TAIL] be brief [END] [HEAD] user [TAIL] hi [END] [HEAD] assistant [TAIL]",
        eos="[END]",
        adds_bos=True,
    ),
    "BOS of the tokenizer only": Case(
        ("", TURN, "[HEAD] assistant [TAIL]"),
        "[BOS] [HEAD] system [TAIL] be brief [END] [HEAD] user [TAIL] hi [END] [HEAD] assistant [TAIL]",
        adds_bos=True,
        end="[END]",
    ),
    "BOS of the template only": Case(
        ("{{ bos_token }} ", TURN, "[HEAD] assistant [TAIL]"),
        "[BOS] [HEAD] system [TAIL] be brief [END] [HEAD] user [TAIL] hi [END] [HEAD] assistant [TAIL]",
        end="[END]",
    ),
    "brackets around instructions": Case(
        ("{{ bos_token }} ", "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST] {% endif %}", ""),
        "[BOS] [INST] hi [/INST]",
        adds_bos=True,
    ),
    "system inside the first instruction": Case(
        (
            "{{ bos_token }} ",
            "{% if m.role == 'system' %}[INST] {{ m.content }} [SYS] {% else %}{{ m.content }} [/INST] {% endif %}",
            "",
        ),
        "[BOS] [INST] be brief [SYS] hi [/INST]",
        adds_bos=True,
    ),
    "the model has a name of its own": Case(
        (
            "{{ bos_token }} ",
            "[HEAD] {{ 'model' if m.role == 'assistant' else m.role }} {{ m.content }} [END] ",
            "[HEAD] model",
        ),
        "[BOS] [HEAD] system be brief [END] [HEAD] user hi [END] [HEAD] model",
        eos="[END]",
        adds_bos=True,
    ),
    "a token a role": Case(
        ("", "{{ '[USER]' if m.role == 'user' else '[SYS]' }} {{ m.content }} [END] ", "[BOT]"),
        "[SYS] be brief [END] [USER] hi [END] [BOT]",
        bos=None,
        end="[END]",
    ),
    "words for roles": Case(
        ("", "{{ m.role }} : {{ m.content }} ", "assistant :"),
        "system : be brief user : hi assistant :",
        bos=None,
    ),
    "headings": Case(
        ("", "### {{ 'human' if m.role == 'user' else 'system' }} : {{ m.content }} ", "### assistant :"),
        "[BOS] ### system : be brief ### human : hi ### assistant :",
        adds_bos=True,
    ),
    "the header opens a thought": Case(
        ("{{ bos_token }} ", "[USER] {{ m.content }} ", "[BOT] [THINK]"),
        "[BOS] [USER] be brief [USER] hi [BOT] [THINK]",
    ),
    "thoughts of earlier turns are dropped": Case(
        ("", "[HEAD] {{ m.role }} {{ m.content.split('[/THINK]')[-1] }} [END] ", "[HEAD] assistant [THINK] [/THINK]"),
        "[HEAD] system be brief [END] [HEAD] user hi [END] [HEAD] assistant [THINK] [/THINK]",
        bos=None,
        eos="[END]",
    ),
}
MESSAGES = ({"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"})
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}


def ids(text: str) -> list[int]:
    return [VOCABULARY[word] for word in text.split()]


def tokenizer_of(case: Case, folder: Path) -> bridge.Tokenizer:
    """A tokenizer of whole words with the case's template and special tokens."""
    inner = tokenizers.Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(SPECIAL)
    if case.adds_bos:
        inner.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 0)])
    inner.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": case.eos, "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | ({"bos_token": case.bos} if case.bos else {})))
    before, turn, header = case.template
    (folder / "chat_template.jinja").write_text(before + LOOP % turn + ASK % header)
    return bridge.Tokenizer(folder)


@pytest.mark.parametrize("name", CASES)
def test_one_bos_the_prompt_a_prefix_and_eos_once(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    found = tokenizer_of(case, tmp_path)
    golden, end = ids(case.golden), VOCABULARY[case.end or case.eos]
    assert found.prompt(MESSAGES) == golden
    assert golden.count(VOCABULARY["[BOS]"]) == (case.bos is not None)

    row = data.Row("here:1", MESSAGES, chosen="yes", rejected=f"yes {case.end or case.eos}")  # ends itself
    ((chosen, rejected),) = encoding.answers(data.Dataset((row,)), found, longest=99).examples
    assert chosen.ids == rejected.ids == (*golden, VOCABULARY["yes"], end)
    trained = [token for token, mask in zip(chosen.ids, chosen.mask, strict=True) if mask]
    assert trained == [VOCABULARY["yes"], end]

    assert end in found.ends

    cut, n_prompt = found.completed(MESSAGES, "yes", ended=False)
    assert cut[:n_prompt] == golden
    assert end not in cut[n_prompt:]


def test_twelve_of_them() -> None:
    assert len(CASES) == 12


# -------------------------------------------------------------------- published forms, letter by letter


class Published(NamedTuple):
    """A template as checkpoints have it, shortened, with what an answer "fine" is trained as.

    Attributes:
        template: of the whole conversation.
        special: special tokens.
        eos: of the tokenizer.
        answer: what follows the header.
        end: the token with which a turn ends.
    """

    template: str
    special: tuple[str, ...]
    eos: str
    answer: str
    end: str


def asking(header: str) -> str:
    """The end of a template that writes the header of an answer where it is asked for."""
    return "{% if add_generation_prompt %}{{ '" + header + "' }}{% endif %}"


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and m.reasoning_content %}"
    "{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ '<tool_call>' + (call | tojson) + '</tool_call>' }}{% endfor %}"
    "{% if m.name %}{{ '(' + m.name + ')' }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    + asking("<|im_start|>assistant\\n")
    + "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
)
PUBLISHED = {
    "gemma": Published(
        "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' "
        "+ (m.content | trim) + '<end_of_turn>\\n' }}{% endfor %}" + asking("<start_of_turn>model\\n"),
        ("<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        "fine<end_of_turn>\n",
        "<end_of_turn>",
    ),
    "chatml on a base model": Published(
        CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|endoftext|>", "fine<|im_end|>\n", "<|im_end|>"
    ),
    "llama 3": Published(
        "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content "
        "+ '<|eot_id|>' }}{% endfor %}" + asking("<|start_header_id|>assistant<|end_header_id|>\\n\\n"),
        ("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|end_of_text|>",
        "fine<|eot_id|>",
        "<|eot_id|>",
    ),
    "phi 3, EOS behind the turn's end": Published(
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|endoftext|>",
        "fine<|end|>\n",
        "<|end|>",
    ),
    "llama 2, a space around": Published(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' </s>' }}{% endif %}{% endfor %}",
        ("</s>",),
        "</s>",
        " fine </s>",
        "</s>",
    ),
    "a header in any case": Published(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<user>' + m.content }}"
        "{% else %}{{ '<bot>' + m.content + '</s>' }}{% endif %}{% endfor %}<bot>",
        ("</s>", "<user>", "<bot>"),
        "</s>",
        "fine</s>",
        "</s>",
    ),
    "a header that opens a thought": Published(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<user>' + m.content }}"
        "{% else %}{{ '<bot>' + m.content.split('</think>')[-1] + '</s>' }}{% endif %}{% endfor %}"
        + asking("<bot><think>\\n"),
        ("</s>", "<user>", "<bot>"),
        "</s>",
        "fine</s>",
        "</s>",
    ),
}


def published(name: str, folder: Path, **config: object) -> bridge.Tokenizer:
    """A byte-level tokenizer, which changes no letter, with a published template; `config` of the model beside it."""
    case = PUBLISHED[name]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens(list(case.special))
    folder.mkdir(exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": case.eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    (folder / "chat_template.jinja").write_text(case.template)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return bridge.Tokenizer(folder)


ASKED = [{"role": "user", "content": "how?"}]


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_answer_ends_as_its_template_ends_it(name: str, tmp_path: Path) -> None:
    """Its end of a turn, perhaps with white space; no EOS behind that, and no header of another answer."""
    case, found = PUBLISHED[name], published(name, tmp_path)
    ids, n = found.completed(ASKED, "fine")
    assert found.decode(ids[:n], special=True) == found.render(ASKED)
    assert found.decode(ids[n:], special=True) == case.answer
    (end,) = found.encode(case.end)
    assert end in ids[n:]
    assert set(found.ends) == {end, found.eos}
    assert found.decode(found.completed(ASKED, "fine", ended=False)[0][n:], special=True).strip() == "fine"
    assert found.decode(found.completed("how?", "fine")[0], special=True) == f"how?fine{case.eos}"
    whole = found._inner.apply_chat_template([*ASKED, {"role": "assistant", "content": "fine"}], tokenize=False)
    if whole.startswith(found.render(ASKED)):
        assert whole.removeprefix(found.render(ASKED)).startswith(case.answer)


def test_no_part_of_an_answer_is_lost(tmp_path: Path) -> None:
    """Thoughts that a template would drop stay; one that has ended already is not ended again."""
    found = published("a header that opens a thought", tmp_path / "r")
    for said, trained in {"so</think>fine": "so</think>fine</s>", "fine</s>": "fine</s>"}.items():
        ids, n = found.completed(ASKED, said)
        assert found.decode(ids[n:], special=True) == trained
    gemma = published("gemma", tmp_path / "g")
    assert not gemma.ends_inside("fine<end_of_turn>\n")
    assert gemma.ends_inside("fine<end_of_turn>\nmore")
    assert gemma.ends_inside("fine<eos><end_of_turn>")


CALL = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "CET"}}}


def test_an_answer_that_is_a_message_is_written_whole_or_refused(tmp_path: Path) -> None:
    chatml = published("chatml on a base model", tmp_path / "c")
    for message in (
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "content": "fine", "reasoning_content": "well"},
    ):
        ids, n = chatml.completed(ASKED, message)
        whole = chatml._inner.apply_chat_template([*ASKED, message], tokenize=False)
        assert chatml.decode(ids, special=True) == whole
        assert chatml.decode(ids[:n], special=True) == chatml.render(ASKED)
        llama = published("llama 3", tmp_path / "l")
        with pytest.raises(bridge.BridgeError, match=r"does not write .*(tool_calls|reasoning_content)"):
            llama.completed(ASKED, message)
        with pytest.raises(bridge.BridgeError, match="needs a prompt of messages"):
            chatml.completed("how?", message)
    with pytest.raises(bridge.BridgeError, match="does not write tool_calls"):
        llama.render([*ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}, *ASKED])
