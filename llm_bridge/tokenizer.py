"""Text to token ids and back, through the checkpoint's own tokenizer, once and for all.

Ids are made from text in one place and carried from there on. A completion is encoded apart from its prompt, so the ids
of a prompt are always a prefix of those of the prompt with its completion, which encoding the joined text does not
guarantee. Masks come from where ids were put, never from what they are: a padding token inside a row counts.

A chat template is a program in a checkpoint; transformers runs it in a sandbox without attributes or side effects.
Tokenizers that bring Python code are refused.
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from llm_bridge.architecture import BridgeError
from llm_bridge.tensor_files import checkpoint_folder, read_json

Message = Mapping[str, Any]  # "role", and "content": a text or parts {"type": "text", "text": ...}
CONFIG = "tokenizer_config.json"
FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
GIVEN = ("messages", "conversation", "tokenize", "add_generation_prompt")  # which a template gets from here


class Tokenizer:
    """The tokenizer of a checkpoint; that of a policy is `policy.tokenizer`.

    Attributes:
        bos, eos, pad: ids of the special tokens; None where there is none. Without a padding token pad is eos, or 0.
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
        """Text of ids, with or without special tokens.

        Raises:
            BridgeError: an id is negative or no integer.
        """
        found = np.asarray(ids)
        if found.size and (found.dtype.kind not in "iu" or found.min() < 0):
            raise BridgeError(f"expected token ids >= 0, got {found[:8]!s}")
        return self._inner.decode([int(i) for i in found], skip_special_tokens=not special)

    def prompt(self, prompt: str | Sequence[Message], **template_arguments: Any) -> list[int]:
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
        self, prompt: str | Sequence[Message], completion: str, *, ended: bool = True, **template_arguments: Any
    ) -> tuple[list[int], int]:
        """Ids of a prompt with a completion, and how many of them are the prompt's.

        Args:
            prompt: see `prompt`.
            completion: what follows it.
            ended: whether it ends there; then EOS is appended, unless the text has it. A truncated one has none.
            template_arguments: see `prompt`.

        Raises:
            BridgeError: the tokenizer has no EOS to end with.
        """
        if ended and self.eos is None:
            raise BridgeError(f"{self._where}: the tokenizer has no EOS token to end a completion with")
        before, after = self.prompt(prompt, **template_arguments), self.encode(completion)
        end = [self.eos] if ended and after[-1:] != [self.eos] else []
        return before + after + end, len(before)

    def render(self, messages: Sequence[Message], **template_arguments: Any) -> str:
        """The chat template's text, with the header of the answer.

        Args:
            messages: see `prompt`.
            template_arguments: see `prompt`; one that the template does not ask for would change nothing.

        Raises:
            BridgeError: there is no chat template, it does not know an argument, or it refuses these messages.
        """
        given = plain_messages(messages)
        if not self._inner.chat_template:
            raise BridgeError(f"{self._where}: the tokenizer has no chat template; give prompts as text")
        try:
            template = self._inner.get_chat_template(template_arguments.get("chat_template"))
            for name in template_arguments:
                if name in GIVEN or (name != "chat_template" and not re.search(rf"\b{re.escape(name)}\b", template)):
                    raise BridgeError(f"{self._where}: the chat template does not ask for {name}")
            return self._inner.apply_chat_template(
                given, tokenize=False, add_generation_prompt=True, **template_arguments
            )
        except BridgeError:
            raise
        except Exception as error:  # a template is a program, and fails as one
            reason = " ".join(str(error).split())[:300]
            raise BridgeError(f"{self._where}: the chat template refuses these messages ({reason})") from error

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
        """Rows of ids as one array, padded at the end, and which of it are tokens."""
        length = max(map(len, rows), default=0)
        tokens, mask = np.full((len(rows), length), self.pad, np.int32), np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        return tokens, mask


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
