"""Text to token ids and back, through the checkpoint's own tokenizer, once and for all.

Ids are made from text in one place and carried from there on. A completion is encoded apart from its prompt, so the ids
of a prompt are always a prefix of those of the prompt with its completion, which encoding the joined text does not
guarantee. Masks come from where ids were put, never from what they are: a padding token inside a row counts.

A chat template is a program in a checkpoint; transformers runs it in a sandbox without attributes or side effects.
Tokenizers that bring Python code are refused.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from llm_bridge.architecture import BridgeError
from llm_bridge.tensor_files import read_json

Message = dict[str, str]
CONFIG = "tokenizer_config.json"


class Tokenizer:
    """The tokenizer of a checkpoint folder.

    Attributes:
        bos, eos, pad: ids of the special tokens; None where there is none. Without a padding token pad is eos, or 0.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        """Load it.

        Raises:
            BridgeError: there is none in the folder, or it would run code.
        """
        folder = Path(folder)
        config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
        if "auto_map" in config:
            raise BridgeError(f"{folder / CONFIG}: auto_map asks to run code of the checkpoint, which is refused")
        if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab*")):
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

    def decode(self, ids: Sequence[int] | Int[np.ndarray, " _"], *, special: bool = False) -> str:
        """Text of ids, with or without special tokens."""
        return self._inner.decode([int(i) for i in ids], skip_special_tokens=not special)

    def prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """Ids of a prompt: of text, or of messages through the chat template, up to where the answer begins.

        A tokenizer that begins every text with BOS begins this one with it, once.

        Raises:
            BridgeError: messages, and no chat template; or one that begins with BOS twice.
        """
        ids = self.encode(prompt if isinstance(prompt, str) else self.render(prompt))
        if self._adds_bos and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            raise BridgeError(
                f"{self._where}: the prompt begins with BOS twice; remove it from the template or the text"
            )
        return ids

    def completed(
        self, prompt: str | Sequence[Message], completion: str, *, ended: bool = True
    ) -> tuple[list[int], int]:
        """Ids of a prompt with a completion, and how many of them are the prompt's.

        Args:
            prompt: see `prompt`.
            completion: what follows it.
            ended: whether it ends there; then EOS is appended, unless the text has it. A truncated one has none.

        Raises:
            BridgeError: the tokenizer has no EOS to end with.
        """
        if ended and self.eos is None:
            raise BridgeError(f"{self._where}: the tokenizer has no EOS token to end a completion with")
        before, after = self.prompt(prompt), self.encode(completion)
        end = [self.eos] if ended and after[-1:] != [self.eos] else []
        return before + after + end, len(before)

    def render(self, messages: Sequence[Message]) -> str:
        """The chat template's text, with the header of the answer.

        Raises:
            BridgeError: there is no chat template, or it refuses these messages.
        """
        if not self._inner.chat_template:
            raise BridgeError(f"{self._where}: the tokenizer has no chat template; give prompts as text")
        from jinja2 import TemplateError

        try:
            return self._inner.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise BridgeError(f"{self._where}: the chat template refuses these messages ({error})") from error

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
        """Rows of ids as one array, padded at the end, and which of it are tokens."""
        length = max(map(len, rows), default=0)
        tokens, mask = np.full((len(rows), length), self.pad, np.int32), np.zeros((len(rows), length), bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], mask[i, : len(row)] = row, True
        return tokens, mask
