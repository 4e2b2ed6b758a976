"""Text to token ids and back, through the checkpoint's own tokenizer, once and for all.

Ids are made from text in one place and carried from there on. A completion is encoded apart from its prompt, so the ids
of a prompt are always a prefix of those of the prompt with its completion, which encoding the joined text does not
guarantee. Masks come from where ids were put, never from what they are: a padding token inside a row counts.

What ends a row is one set for everything that makes or reads rows (`Tokenizer.ends`): the EOS token of the tokenizer,
those that `config.json` and `generation_config.json` name, and the special token with which the chat template ends a
turn of the assistant.

A chat template is a program in a checkpoint; transformers runs it in a sandbox without attributes or side effects.
Tokenizers that bring Python code are refused.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.config import end_tokens
from llm_bridge.model.tensor_files import CONFIG as MODEL_CONFIG
from llm_bridge.model.tensor_files import GENERATION_CONFIG, checkpoint_folder, read_json

Message = Mapping[str, Any]  # "role", "content" (a text or parts {"type": "text", "text": ...}), what a template knows
CONFIG = "tokenizer_config.json"
FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
GIVEN = ("messages", "conversation", "tokenize", "add_generation_prompt")  # which a template gets from here
PROBE = "(answer)"  # stands for an answer where it is asked what a template writes behind one
# keys of an answer that are lost where no template writes them
WRITTEN = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")


class Tokenizer:
    """The tokenizer of a checkpoint; that of a policy is `policy.tokenizer`.

    Attributes:
        bos, eos, pad: ids of the special tokens; None where there is none. Without a padding token pad is eos, or 0.
        ends: ids that end a row, each one once. They are those of the configuration files, the EOS token, and the
            special token with which the chat template ends a turn. Empty where nothing names one.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, revision: str | None = None):
        """Load it.

        Args:
            path: a folder, or the id of a model on the Hugging Face hub, as of `llm_bridge.load`.
            revision: of a hub id.

        Raises:
            BridgeError: there is none in the folder, or it would run code; or there is no such folder or id.
        """
        if path is None:
            raise BridgeError("expected a folder or a hub id, got None: the policy was made without a tokenizer")
        folder = checkpoint_folder(path, FILES, revision=revision)
        config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
        if "auto_map" in config:
            raise BridgeError(f"{folder / CONFIG}: auto_map asks to run code of the checkpoint, which is refused")
        if not _in(folder):
            raise BridgeError(f"{folder}: has no tokenizer, expected tokenizer.json")
        from transformers import AutoTokenizer

        try:
            self._inner: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise BridgeError(f"{folder}: the tokenizer cannot be loaded ({reason})") from error
        self._where = folder
        self.bos, self.eos = self._inner.bos_token_id, self._inner.eos_token_id
        pad = self._inner.pad_token_id
        self.pad = pad if pad is not None else self.eos if self.eos is not None else 0
        self._adds_bos = self.bos is not None and self._inner("")["input_ids"][:1] == [self.bos]
        files = (folder / GENERATION_CONFIG, folder / MODEL_CONFIG)
        named = [token for file in files if file.exists() for token in end_tokens(read_json(file), str(file))]
        known = [token for token in named if token >= 0] + ([] if self.eos is None else [self.eos])
        self.ends = tuple(dict.fromkeys(known))
        self.ends += tuple(token for token in self._template_ends() if token not in self.ends)

    @property
    def has_template(self) -> bool:
        """Whether messages can be prompts."""
        return bool(self._inner.chat_template)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of text as it stands, without any that the text does not have.

        Args:
            text: any.
            special: whether special tokens that the text spells are these tokens, or just their letters.
        """
        return self._inner.encode(text, add_special_tokens=False, split_special_tokens=not special)

    def decode(self, ids: Sequence[int] | Int[Any, " _"], *, special: bool = False) -> str:
        """Text of ids, with or without special tokens and the end token behind them.

        Raises:
            BridgeError: an id is negative or no integer.
        """
        found = np.asarray(ids)
        if found.size and (found.dtype.kind not in "iu" or found.min() < 0):
            raise BridgeError(f"expected token ids >= 0, got {found[:8]!s}")
        if not special and found.size and found[-1] in self.ends:
            found = found[:-1]  # which a tokenizer need not call special
        return self._inner.decode([int(i) for i in found], skip_special_tokens=not special)

    def prompt(self, prompt: str | Sequence[Message], /, **template_arguments: Any) -> list[int]:
        """Ids of a prompt: of text, or of messages through the chat template, up to where the answer begins.

        A tokenizer that begins every text with BOS begins this one with it, once.

        Args:
            prompt: text, or messages, each with a role and a content.
            template_arguments: what this chat template knows besides, such as `enable_thinking=False`.

        Raises:
            BridgeError: no text and no messages; messages, and no chat template; or one that begins with BOS twice.
        """
        if isinstance(prompt, str):
            if template_arguments:
                names = ", ".join(template_arguments)
                raise BridgeError(f"a prompt that is text goes through no chat template, which {names} would be for")
            ids = self.encode(prompt)
        else:
            ids = self.encode(self.render(prompt, **template_arguments))
        if self._adds_bos and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            raise BridgeError(
                f"{self._where}: the prompt begins with BOS twice; remove it from the template or the text"
            )
        return ids

    def completed(
        self,
        prompt: str | Sequence[Message],
        completion: str | Message,
        /,
        *,
        ended: bool = True,
        **template_arguments: Any,
    ) -> tuple[list[int], int]:
        """Ids of a prompt with a completion, and how many of them are the prompt's.

        Behind messages the completion is written as the chat template writes it. That includes the template's own end
        of a turn (`fine<end_of_turn>` and a line end, for one). Where that has no end token, and behind text, EOS is
        appended.

        Args:
            prompt: text or messages, as for `prompt`.
            completion: what follows it; behind messages also a message, whose keys reach the template.
            ended: whether it ends there. A truncated one has no end token; one that the text spells stays.
            template_arguments: as for `prompt`.

        Raises:
            BridgeError: nothing names a token to end with; or the template does not write what the message holds.
        """
        before = self.prompt(prompt, **template_arguments)
        if isinstance(prompt, str):
            body, end = _text_of(completion), ""
        else:
            body, end = self._turn(plain_messages(prompt), completion, template_arguments)
        after = self.encode(body + end if ended else body)
        if ended and not self.has_ended(after):
            if not self.ends:
                raise BridgeError(f"{self._where}: the tokenizer has no EOS token to end a completion with")
            after.append(self.ends[0] if self.eos is None else self.eos)
        return before + after, len(before)

    def has_ended(self, ids: Sequence[int]) -> bool:
        """Whether ids have an end token with nothing but white space behind it."""
        for i in reversed(range(len(ids))):
            if ids[i] in self.ends:
                return True
            if self._inner.decode(ids[i : i + 1]).strip():
                return False
        return False

    def ends_inside(self, text: str) -> bool:
        """Whether a text spells an end token before its own end."""
        ids = self.encode(text)
        return sum(token in self.ends for token in ids) > self.has_ended(ids)

    def render(self, messages: Sequence[Message], /, **template_arguments: Any) -> str:
        """The chat template's text, with the header of the answer.

        Args:
            messages: as for `prompt`, each with a role and a content.
            template_arguments: as for `prompt`; one that the template does not ask for is refused.

        Raises:
            BridgeError: there is no chat template, it does not know an argument, or it refuses these messages.
        """
        return self._rendered(plain_messages(messages), template_arguments, header=True)

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
        """Rows of ids as one array, padded at the end, and which of it are tokens."""
        length = max(map(len, rows), default=0)
        tokens, mask = np.full((len(rows), length), self.pad, np.int32), np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        return tokens, mask

    def _rendered(self, given: list[dict[str, Any]], arguments: Mapping[str, Any], *, header: bool) -> str:
        """The text that the chat template makes of plain messages; `header` asks for the header of the answer."""
        if not self._inner.chat_template:
            raise BridgeError(f"{self._where}: the tokenizer has no chat template; give prompts as text")
        try:
            template = self._inner.get_chat_template(arguments.get("chat_template"))
            for name in arguments:
                if name in GIVEN or (name != "chat_template" and name not in _asked_for(template)):
                    raise BridgeError(f"{self._where}: the chat template does not ask for {name}")
            for name, value in arguments.items():
                if isinstance(value, str) and (word := value.strip().lower()) in ("true", "false"):
                    text = f"the text {word!r}, which every chat template takes for true"
                    raise BridgeError(f"{self._where}: {name} is {text}; expected {word} without quotes")
            if any(message.get("tool_calls") for message in given) and "tool_calls" not in template:
                raise BridgeError(f"{self._where}: the chat template does not write tool_calls, which a message has")
            return self._inner.apply_chat_template(given, tokenize=False, add_generation_prompt=header, **arguments)
        except BridgeError:
            raise
        except Exception as error:  # a template is a program, and fails as one
            reason = " ".join(str(error).split())[:300]
            raise BridgeError(f"{self._where}: the chat template refuses these messages ({reason})") from error

    def _turn(
        self, given: list[dict[str, Any]], completion: str | Message, arguments: Mapping[str, Any]
    ) -> tuple[str, str]:
        """What the template writes of an answer behind the header, and with what it ends the turn.

        An answer that ends itself is taken as it stands; so is one that the template does not write whole, or writes
        behind another header than it asks with (one that opens a thought).

        Raises:
            BridgeError: an answer that is a message has keys that are not written.
        """
        answer = {"role": "assistant", "content": completion} if isinstance(completion, str) else completion
        (answer,) = plain_messages([answer])
        said, lost = answer.get("content") or "", [key for key in WRITTEN if answer.get(key)]
        if not lost and self.has_ended(self.encode(said)):
            return said, ""
        tail = self._tail(given, arguments)
        before = self._rendered(given, arguments, header=True)
        try:
            whole = self._rendered([*given, answer], arguments, header=False)
        except BridgeError:
            if lost:
                raise
            return said, self._end_in(tail or "")
        rest = whole.removeprefix(before) if whole.startswith(before) and whole.endswith(tail or "") else ""
        body = rest.removesuffix(tail or "")
        template = self._inner.get_chat_template(arguments.get("chat_template"))
        if unwritten := [key for key in lost if key not in template or not body]:
            raise BridgeError(f"{self._where}: the chat template does not write an answer's {unwritten[0]}")
        whole_answer = body and "".join(said.split()) in "".join(body.split())  # a template may drop a thought
        return body if whole_answer else said, self._end_in(tail or "")

    def _tail(self, given: list[dict[str, Any]], arguments: Mapping[str, Any]) -> str | None:
        """What the template writes behind an answer to these messages; None if it writes no answer."""
        try:
            probe = [*given, {"role": "assistant", "content": PROBE}]
            _, found, tail = self._rendered(probe, arguments, header=False).rpartition(PROBE)
        except BridgeError:
            return None
        return tail if found else None

    def _end_in(self, tail: str) -> str:
        """What stands behind an answer up to the first end token, with white space behind that; "" without one.

        The rest would never be generated; some templates write the header of another answer there.
        """
        spelled = [self._inner.decode([token]) for token in self.ends if token < len(self._inner)]
        places = [(tail.find(text), -len(text)) for text in spelled if text and text in tail]
        if not places:
            return ""
        start, length = min(places)
        rest = tail[start - length :]
        return tail[: len(tail) - len(rest.lstrip())]

    def _template_ends(self) -> list[int]:
        """The special token with which the chat template ends a turn of the assistant, if it does so."""
        question = [{"role": "user", "content": "?"}]
        tail = (self._tail(question, {}) or "").strip() if self.has_template else ""
        ids = self.encode(tail)[:1]
        if not ids or not self._is_special(ids[0]):
            return []
        with suppress(BridgeError):
            if self._rendered(question, {}, header=True).rstrip().endswith(self._inner.decode(ids)):
                return []  # the header of the next answer, which some templates write in any case
        return ids

    def _is_special(self, token: int) -> bool:
        return getattr(self._inner.added_tokens_decoder.get(token), "special", False)


@cache
def _asked_for(template: str) -> frozenset[str]:
    """Names of the variables that a chat template is given from outside, in the Jinja of transformers."""
    from jinja2.meta import find_undeclared_variables
    from transformers.utils.chat_template_utils import _compile_jinja_template

    environment = _compile_jinja_template(template).environment
    return frozenset(find_undeclared_variables(environment.parse(template)))


@cache
def tokenizer_of(folder: str | None) -> Tokenizer | None:
    """The tokenizer in a checkpoint's folder, loaded once; None if there is none in it.

    Raises:
        BridgeError: it cannot be loaded, or would run code.
    """
    return Tokenizer(folder) if folder is not None and _in(Path(folder)) else None


def _in(folder: Path) -> bool:
    """Whether a folder holds a tokenizer."""
    return any(file for pattern in ("tokenizer*", "vocab*") for file in folder.glob(pattern))


def text_of(message: Message) -> str:
    """What a message says, for people and judges: its content, then its tool calls as JSON."""
    calls = message.get("tool_calls")
    said = [message.get("content") or "", *([json.dumps(calls, ensure_ascii=False)] if calls else [])]
    return "\n".join(part for part in said if part)


def _text_of(completion: str | Message) -> str:
    """A completion behind a prompt that is text.

    Raises:
        BridgeError: it is a message with more than a content.
    """
    if isinstance(completion, str):
        return completion
    if lost := [key for key in WRITTEN if completion.get(key)]:
        raise BridgeError(f"an answer with {lost[0]} needs a prompt of messages, which a chat template writes")
    return completion.get("content") or ""


def plain_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages whose contents are texts.

    Raises:
        BridgeError: these are none; the message says which and why.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise BridgeError(f"expected a prompt to be text or a list of messages, got {str(messages)[:80]!r}")
    return [_plain(message, i) for i, message in enumerate(messages)]


def _plain(message: Any, number: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise BridgeError(
            f"message {number}: expected an object with a role and a content, got {str(message)[:80]!r}; "
            "token ids need no tokenizer"
        )
    content = message.get("content")
    if isinstance(content, list | tuple):
        texts = [part for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        parts = [part["text"] for part in texts if isinstance(part.get("text"), str)]
        if len(parts) < len(content):
            raise BridgeError(f"message {number}: expected parts {{'type': 'text', 'text': ...}} only")
        return dict(message) | {"content": "".join(parts)}
    if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
        raise BridgeError(f"message {number}: expected a content that is text, got {str(content)[:80]!r}")
    return dict(message)
