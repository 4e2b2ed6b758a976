"""Reading a `config.json` so that no field that changes the mathematics can go unnoticed.

A family reads the fields that it knows, and says which values of others it can follow. Whatever is left must be on the
list of fields that change no logit, or it is a problem. All problems of a checkpoint are reported together.
"""

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from llm_bridge.architecture import BridgeError, Form, Rotary
from llm_bridge.rotary import yarn_attention_factor

LOG = logging.getLogger(__name__)

# Training, tokenisation, generation and bookkeeping: nothing of it enters a logit.
HARMLESS = re.compile(
    r"_name_or_path|architectures|model_type|transformers_version|torch_dtype|dtype|use_cache|cache_implementation"
    r"|(attention|resid|embd|attn|hidden|classifier)_(p?drop|dropout)(_prob)?|initializer_range|initializer_factor"
    r"|(bos|eos|pad|sep|unk|cls|mask|decoder_start)_token_id|pretraining_tp|problem_type|id2label|label2id|num_labels"
    r"|summary_\w+|router_aux_loss_coef|output_router_logits|task_specific_params|tokenizer_class|finetuning_task"
    r"|return_dict|output_attentions|output_hidden_states|torchscript|chunk_size_feed_forward|reorder_and_upcast_attn"
    r"|_attn_implementation\w*|attn_implementation|gradient_checkpointing|unsloth_\w+|use_bfloat16|is_encoder_decoder"
    r"|do_sample|max_length|min_length|temperature|top_k|top_p|typical_p|repetition_penalty|length_penalty"
    r"|no_repeat_ngram_size|num_beams|num_beam_groups|diversity_penalty|early_stopping|num_return_sequences"
    r"|encoder_no_repeat_ngram_size|bad_words_ids|remove_invalid_values|exponential_decay_length_penalty"
    r"|suppress_tokens|begin_suppress_tokens|forced_(bos|eos)_token_id|prefix|tf_legacy_loss|n_ctx"
)
CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
ROTARY_KEYS = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
    "yarn": {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"factor", "attention_factor", "short_factor", "long_factor"},
}
ALIASES = {"su": "longrope"}
MAX_LISTED = 20


class Fields:
    """The fields of a configuration, and what could not be followed so far.

    Attributes:
        problems: sentences; `finish` raises them all.
    """

    def __init__(self, raw: Mapping[str, Any]):
        self._raw = dict(raw)
        self._read: set[str] = set()
        self.problems: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field; the default where it is absent or null."""
        self._read.add(name)
        value = self._raw.get(name)
        return default if value is None else value

    def has(self, name: str) -> bool:
        """Whether a field is there, null or not."""
        return name in self._raw

    def present(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._raw.get(name) is not None

    def size(self, name: str, default: int | None = None) -> int:
        """A field that counts something; 1 and a problem where it does not."""
        value = self.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.problems.append(f"expected {name} to be a positive integer, got {value!r}")
        return 1

    def only(self, name: str, *allowed: Any) -> None:
        """Accept a field if it is absent, null, or has one of these values."""
        value = self.get(name)
        if value is not None and value not in allowed:
            expected = " or ".join(repr(a) for a in allowed) or "null"
            self.problems.append(f"{name} = {value!r} changes the model and is not supported (expected {expected})")

    def choice(self, name: str, default: str, choices: Mapping[str, Any]) -> Any:
        """What a field's value stands for."""
        value = self.get(name, default)
        if value in choices:
            return choices[value]
        self.problems.append(f"{name} = {value!r} is not supported (expected one of {', '.join(choices)})")
        return choices[default]

    def finish(self, where: str) -> None:
        """Raise what has been found, and every field that was neither read nor harmless.

        Code that a checkpoint brings is never run; a warning says that the family's code here is used instead.

        Raises:
            BridgeError: there is a problem; the message lists all.
        """
        unread = sorted(set(self._raw) - self._read)
        unknown = [name for name in unread if self._raw[name] is not None and not HARMLESS.fullmatch(name)]
        others = [
            f"{name} = {str(self._raw[name])[:80]} is unknown and could change the model"
            for name in unknown
            if name not in CODE
        ]
        raise_all(where, self.problems + others)
        if code := [name for name in unknown if name in CODE]:
            LOG.warning("%s: %s names code of the checkpoint, which is not run", where, ", ".join(code))


def raise_all(where: str, problems: list[str]) -> None:
    """One error that lists every problem.

    Raises:
        BridgeError: there is a problem.
    """
    if problems:
        rest = len(problems) - MAX_LISTED
        listed = [*problems[:MAX_LISTED], *([f"and {rest} more"] if rest > 0 else [])]
        raise BridgeError(f"{where}: " + "; ".join(listed))


def rotary(fields: Fields, parameters: Mapping[str, Any], theta: float, head_width: int, max_length: int) -> Rotary:
    """A rotary form from `rope_parameters` (transformers 5) or `rope_scaling` with `rope_theta` (before).

    Args:
        fields: where problems are noted.
        parameters: the field's content; may be empty.
        theta: the base where `parameters` has none.
        head_width: channels of a head.
        max_length: `max_position_embeddings`.
    """
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    form = ALIASES.get(kind, kind)
    if form not in ROTARY_KEYS:
        fields.problems.append(f"rope type {kind!r} is not supported (expected one of {', '.join(ROTARY_KEYS)})")
        form = "default"
    always = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
    for key in sorted(set(parameters) - always - ROTARY_KEYS[form]):
        if parameters[key] is not None:
            fields.problems.append(f"{key} = {parameters[key]!r} is unknown to the rope type {kind!r}")
    original = int(parameters.get("original_max_position_embeddings") or max_length)
    share = float(parameters.get("partial_rotary_factor") or 1.0)
    rest = {"theta": float(parameters.get("rope_theta") or theta), "n_channels": int(head_width * share)}
    rest["original_length"] = max_length if form == "dynamic" else original
    try:
        return Rotary(form=cast(Form, form), **rest, **_stretch(form, parameters, max_length / original, original))
    except (KeyError, TypeError) as error:
        fields.problems.append(f"the rope type {kind!r} needs {error.args[0]}")
        return Rotary(**rest)


def _stretch(form: str, given: Mapping[str, Any], ratio: float, original: int) -> dict[str, Any]:
    """The attributes of `Rotary` that only some forms have."""
    match form:
        case "linear" | "dynamic":
            return {"factor": float(given["factor"])}
        case "llama3":
            low, high = float(given["low_freq_factor"]), float(given["high_freq_factor"])
            return {"factor": float(given["factor"]), "low": low, "high": high}
        case "yarn":
            factor = float(given.get("factor") or ratio)
            temperature = yarn_attention_factor(factor, given.get("mscale"), given.get("mscale_all_dim"))
            return {
                "factor": factor,
                "low": float(given.get("beta_slow") or 1),
                "high": float(given.get("beta_fast") or 32),
                "truncated": bool(given.get("truncate", True)),
                "attention_factor": float(given.get("attention_factor") or temperature),
            }
        case "longrope":
            factor = float(given.get("factor") or ratio)
            temperature = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
            return {
                "short": tuple(map(float, given["short_factor"])),
                "long": tuple(map(float, given["long_factor"])),
                "attention_factor": float(given.get("attention_factor") or temperature),
            }
        case _:
            return {}
