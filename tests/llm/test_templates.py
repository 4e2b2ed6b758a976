"""Twelve forms of chat template: one BOS, the prompt a prefix, EOS trained once per completed answer (R16).

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
from llm_bridge import data, encoding

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
        adds_bos: whether encoding puts BOS in front by itself.
    """

    template: tuple[str, str, str]  # before, each turn, header of the answer
    golden: str
    bos: str | None = "[BOS]"
    eos: str = "[EOS]"
    adds_bos: bool = False


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
    ),
    "BOS of the template only": Case(
        ("{{ bos_token }} ", TURN, "[HEAD] assistant [TAIL]"),
        "[BOS] [HEAD] system [TAIL] be brief [END] [HEAD] user [TAIL] hi [END] [HEAD] assistant [TAIL]",
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
    golden, end = ids(case.golden), VOCABULARY[case.eos]
    assert found.prompt(MESSAGES) == golden
    assert golden.count(VOCABULARY["[BOS]"]) == (case.bos is not None)

    row = data.Row("here:1", MESSAGES, chosen="yes", rejected=f"yes {case.eos}")  # one that ends itself, one that not
    ((chosen, rejected),) = encoding.answers(data.Dataset((row,)), found, longest=99).examples
    assert chosen.ids == rejected.ids == (*golden, VOCABULARY["yes"], end)
    trained = [token for token, mask in zip(chosen.ids, chosen.mask, strict=True) if mask]
    assert trained == [VOCABULARY["yes"], end]

    cut, n_prompt = found.completed(MESSAGES, "yes", ended=False)
    assert cut[:n_prompt] == golden
    assert end not in cut[n_prompt:]


def test_twelve_of_them() -> None:
    assert len(CASES) == 12
