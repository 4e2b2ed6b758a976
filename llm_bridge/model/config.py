"""Reading a `config.json` so that no field that changes the mathematics can go unnoticed.

A family reads the fields that it knows, and says which values of others it can follow. Whatever is left must be on the
list of fields that change no logit, or it is a problem. All problems of a checkpoint are reported together.
"""

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

from llm_bridge.model.architecture import BridgeError, Form, Rotary
from llm_bridge.model.rotary import yarn_attention_factor

LOG = logging.getLogger(__name__)

# Training, tokenisation, generation, bookkeeping, and how (not what) is computed: nothing of it enters a logit.
HARMLESS = re.compile(
    r"_name_or_path|architectures|model_type|transformers_version|torch_dtype|dtype|use_cache|cache_implementation"
    r"|\w*(dropout|pdrop|layerdrop|drop_path)(_prob|_rate|_p)?|initializer_\w+|init_(std|method|device)"
    r"|(bos|eos|pad|sep|unk|cls|mask|decoder_start)_token_id|pretraining_tp|problem_type|id2label|label2id|num_labels"
    r"|_num_labels|classifier_\w+|summary_\w+|task_specific_params|tokenizer_class|finetuning_task|is_decoder"
    r"|\w*(aux|router_z|z)_loss(_\w+)?|router_aux_loss_coef|router_jitter_noise|loss_type|label_smoothing\w*"
    r"|neftune_noise_alpha|output_router_logits|return_dict|output_attentions|output_hidden_states|torchscript"
    r"|chunk_size_feed_forward|reorder_and_upcast_attn|_?attn_implementation\w*|_flash_attn\w*|use_flash_attn\w*"
    r"|use_flash_attention\w*|use_fused_\w+|fuse_\w+|gradient_checkpointing\w*|use_gradient_checkpointing"
    r"|unsloth_\w+|use_bfloat16|(bf|fp)16|is_encoder_decoder|tie_encoder_decoder"
    r"|learning_rate|lr_\w+|warmup_\w+|weight_decay|max_grad_norm|seed|\w*batch_size|num_train_epochs"
    r"|gradient_accumulation_steps|optim(izer)?|max_steps|freeze_\w+|ignore_index"
    r"|do_sample|max_length|min_length|max_new_tokens|temperature|top_k|top_p|min_p|typical_p|repetition_penalty"
    r"|length_penalty|no_repeat_ngram_size|num_beams|num_beam_groups|diversity_penalty|early_stopping"
    r"|num_return_sequences|encoder_no_repeat_ngram_size|bad_words_ids|remove_invalid_values"
    r"|exponential_decay_length_penalty|suppress_tokens|begin_suppress_tokens|forced_(bos|eos)_token_id|prefix"
    r"|tf_legacy_loss|n_ctx|is_llama_config|max_sequence_length|model_max_length|max_seq_len(gth)?|seq_length"
    r"|[\w.]+\.js_config|_commit_hash|license|language|tags|datasets|library_name|pipeline_tag|base_model"
    r"|model_name|description|author|version"
)
# Fields that only say again what another one says.
REPEATED = {"sliding_window_size": "sliding_window", "activation": "hidden_act"}
# Fields that change nothing with these values, which transformers writes in full forms of a configuration.
WITHOUT_EFFECT = {"pruned_heads": {}, "add_cross_attention": False, "is_causal": True}
CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
ROTARY_KEYS = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
    "yarn": {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    "longrope": {"factor", "attention_factor", "short_factor", "long_factor"},
}
ROTARY_NEEDS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
}
ANY_ROTARY_KEYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
ALIASES = {"su": "longrope"}
MAX_LISTED = 20


class Fields:
    """The fields of a configuration, and what could not be followed so far.

    Attributes:
        problems: sentences; `finish` raises them all.
    """

    def __init__(self, raw: Mapping[str, Any], problems: list[str] | None = None):
        self._raw = dict(raw)
        self._read: set[str] = set()
        self.problems: list[str] = [] if problems is None else problems

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

    def size(self, name: str, default: int | None = None, *, zero: bool = False) -> int:
        """A field that counts something, perhaps nothing; 1 and a problem where it does not."""
        value = self.get(name, default)
        if is_integer(value) and value >= (0 if zero else 1):
            return value
        expected = "an integer >= 0" if zero else "a positive integer"
        self.problems.append(f"expected {name} to be {expected}, got {value!r}")
        return 1

    def optional_size(self, name: str, default: int | None = None) -> int | None:
        """A field that counts something or is null; the default only where it is absent."""
        value = self._raw.get(name) if self.has(name) else default
        self._read.add(name)
        return None if value is None else self.size(name, default)

    def number(self, name: str, default: float | None = None, *, zero: bool = False) -> float:
        """A field that is finite and above 0, or also 0; 1 and a problem where it is not."""
        value = self.get(name, default)
        if is_number(value) and (value > 0 or (zero and value == 0)):
            return float(value)
        self.problems.append(f"expected {name} to be a number {'>=' if zero else '>'} 0, got {value!r}")
        return 1.0

    def optional_number(self, name: str, default: float | None = None) -> float | None:
        """A field that is finite and above 0 or is null; the default only where it is absent."""
        value = self._raw.get(name) if self.has(name) else default
        self._read.add(name)
        return None if value is None else self.number(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """A field that is true or false."""
        value = self.get(name, default)
        if isinstance(value, bool):
            return value
        self.problems.append(f"expected {name} to be true or false, got {value!r}")
        return default

    def mapping(self, name: str) -> dict[str, Any]:
        """A field that is an object; empty where it is absent or null."""
        value = self.get(name, {})
        if isinstance(value, Mapping):
            return dict(value)
        self.problems.append(f"expected {name} to be an object, got {value!r}")
        return {}

    def listing(self, name: str, default: list[Any], *allowed: Any) -> list[Any]:
        """A field that is a list of some of these values."""
        value = self.get(name, default)
        if isinstance(value, list | tuple) and all(one in allowed for one in value):
            return list(value)
        expected = " and ".join(map(repr, allowed))
        self.problems.append(f"{name} = {str(value)[:80]!r} is not supported (expected a list of {expected})")
        return default

    def repeats(self, name: str, expected: Any) -> None:
        """Accept a field that no family reads if it says what follows from others."""
        if name not in self._read and self._raw.get(name) == expected:
            self._read.add(name)

    def unread(self) -> list[str]:
        """Names of fields that nothing has asked for."""
        return sorted(set(self._raw) - self._read)

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
        for name, other in REPEATED.items():
            self.repeats(name, self._raw.get(other))
        for name, value in WITHOUT_EFFECT.items():
            self.repeats(name, value)
        unknown = [name for name in self.unread() if self.present(name) and not HARMLESS.fullmatch(name)]
        others = [
            f"{name} = {str(self._raw[name])[:80]} is unknown and could change the model"
            for name in unknown
            if name not in CODE
        ]
        if others:
            others[-1] += " (remove from config.json what does not change the mathematics)"
        raise_all(where, list(dict.fromkeys(self.problems)) + others)
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


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value of a JSON file is an integer."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_special_tokens(fields: Fields) -> None:
    """Note where ids of special tokens are none; whether they are in the vocabulary is no matter here."""
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = fields.get(name, [])
        several = isinstance(value, list) and (name == "eos_token_id" or not value)
        if not all(map(is_integer, value if several else [value])):
            expected = "an integer, a list of integers" if name == "eos_token_id" else "an integer"
            fields.problems.append(f"expected {name} to be {expected} or null, got {value!r}")


def end_tokens(content: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """The ids that a `config.json` or a `generation_config.json` names in `eos_token_id`; perhaps none.

    Args:
        content: of the file; null entries of `eos_token_id` are none.
        where: the file, for the message.

    Raises:
        BridgeError: `eos_token_id` is no integer and no list of integers.
    """
    fields = Fields({"eos_token_id": content.get("eos_token_id")})
    check_special_tokens(fields)
    raise_all(where, fields.problems)
    found = fields.get("eos_token_id", [])
    return tuple(found) if isinstance(found, list) else (found,)


def joined_rotary_parameters(fields: Fields, new: Mapping[str, Any]) -> dict[str, Any]:
    """What `rope_scaling` says, or `new`, the form of transformers 5; both if they do not contradict each other."""
    old = fields.mapping("rope_scaling")
    if not old or not new:
        return dict(old or new)
    one, other = ({key: value for key, value in part.items() if value is not None} for part in (old, new))
    for part in (one, other):
        kind = part.pop("type", None)
        kind = part.setdefault("rope_type", kind or "default")
        part["rope_type"] = ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    for key in sorted(set(one) & set(other)):
        if one[key] != other[key]:
            fields.problems.append(
                f"rope_scaling and rope_parameters contradict each other: {key} is {one[key]!r} and {other[key]!r}"
            )
    return other | one


def rotary(fields: Fields, parameters: Mapping[str, Any], theta: float, head_width: int, max_length: int) -> Rotary:
    """A rotary form from `rope_parameters` (transformers 5) or `rope_scaling` with `rope_theta` (before).

    Args:
        fields: where problems are noted.
        parameters: the field's content; may be empty.
        theta: the base where `parameters` has none.
        head_width: channels of a head.
        max_length: `max_position_embeddings`.
    """
    own = Fields(parameters, fields.problems)
    kind = str(parameters.get("rope_type") or parameters.get("type") or "default")
    form = ALIASES.get(kind, kind)
    if form not in ROTARY_KEYS:
        fields.problems.append(f"rope type {kind!r} is not supported (expected one of {', '.join(ROTARY_KEYS)})")
        form = "default"
    for key in sorted(set(parameters) - ANY_ROTARY_KEYS - ROTARY_KEYS[form]):
        if parameters[key] is not None:
            fields.problems.append(f"{key} = {parameters[key]!r} is unknown to the rope type {kind!r}")
    original, share = own.size("original_max_position_embeddings", max_length), own.number("partial_rotary_factor", 1.0)
    n_channels = int(head_width * share)
    if share != 1 and (n_channels % 2 or not 0 < n_channels <= head_width):
        fields.problems.append(
            f"partial_rotary_factor = {share} rotates {n_channels} of {head_width} channels, expected an even number"
        )
        n_channels = head_width
    rest = {"theta": own.number("rope_theta", theta), "n_channels": n_channels}
    rest["original_length"] = max_length if form == "dynamic" else original
    if absent := [key for key in ROTARY_NEEDS.get(form, ()) if not own.present(key)]:
        fields.problems.append(f"the rope type {kind!r} needs {' and '.join(absent)}")
        return Rotary(**rest)
    return Rotary(form=cast(Form, form), **rest, **_stretch(form, own, max_length / original, rest))


def _stretch(form: str, given: Fields, ratio: float, rest: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of `Rotary` that only some forms have."""
    match form:
        case "linear" | "dynamic":
            return {"factor": given.number("factor")}
        case "llama3":
            low, high = given.number("low_freq_factor"), given.number("high_freq_factor")
            if low >= high:
                given.problems.append(f"expected low_freq_factor < high_freq_factor, got {low} and {high}")
            return {"factor": given.number("factor"), "low": low, "high": high}
        case "yarn":
            factor = given.number("factor", ratio)
            scales = (
                given.number(key, 0.0, zero=True) for key in ("mscale", "mscale_all_dim")
            )  # 0 is as good as absent
            return {
                "factor": factor,
                "low": given.number("beta_slow", 1.0),
                "high": given.number("beta_fast", 32.0),
                "truncated": given.flag("truncate", True),
                "attention_factor": given.number("attention_factor", yarn_attention_factor(factor, *scales)),
            }
        case "longrope":
            factor, original = given.number("factor", ratio), rest["original_length"]
            temperature = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
            return {
                "short": _by_pair(given, "short_factor", rest["n_channels"] // 2),
                "long": _by_pair(given, "long_factor", rest["n_channels"] // 2),
                "attention_factor": given.number("attention_factor", temperature),
            }
        case _:
            return {}


def _by_pair(given: Fields, name: str, n_pairs: int) -> tuple[float, ...]:
    """Longrope's factors, one for each pair of channels."""
    value = given.get(name)
    if isinstance(value, list | tuple) and len(value) == n_pairs and all(is_number(one) and one > 0 for one in value):
        return tuple(map(float, value))
    found = f"{len(value)} entries" if isinstance(value, list | tuple) and len(value) != n_pairs else repr(value)[:80]
    given.problems.append(f"expected {name} to be a list of {n_pairs} numbers > 0, one a pair of channels, got {found}")
    return (1.0,) * n_pairs
