"""The `mpo` command: what can be typed, one dataclass a subcommand. Imports nothing heavy.

Flags have the names of TRL where they mean the same, and others where they do not.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from mmd.host.doors import FORMS, names_code
from mmd.host.help import Program
from mmd.host.marks import Positional, Shown

METHODS = ("mpo", *sorted(p.stem for p in (Path(__file__).parents[1] / "train" / "baselines").glob("[!_]*.py")))
FAMILIES = tuple(sorted(p.stem for p in (Path(__file__).parents[1] / "model" / "families").glob("[!_]*.py")))
MAGNETS = ("fixed", "refresh", "moving")
METHOD_HELP = f"{', '.join(METHODS)}, or one from outside ({FORMS}); sft learns from given answers."


SHARE = "0.1, or 8 prompts where that is more and at most half of them"
RATE = "1 / sqrt(number of trained weights), at most 1e-3"
MAGNET = "the method's; for mpo moving=0.125, with an adapter refresh=8"
WEIGHTS = "the magnet if it is an average (moving), else the last iterate"
MESH = "the first device; for mpo train on several accelerators the fastest that mpo plan finds to fit"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, and where and how precisely it computes."""

    model_name_or_path: str
    """A folder with config.json and safetensors, a model's id on the Hugging Face hub, or a folder with an adapter."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Shown("DTYPE", "the files'")] = None
    """Precision of the weights as they are loaded; what is trained is float32."""
    compute_dtype: Annotated[Literal["float32", "bfloat16"] | None, Shown("DTYPE", "the weights'")] = None
    """Precision of activations."""
    family: Annotated[str | None, Shown("FAMILY", "found by the model_type of config.json")] = None
    """A model family from outside this package, as module:name or path.py:name, for a model_type of that name."""
    gradient_checkpointing: bool = False
    """Recompute activations of a layer instead of keeping them: less memory, a third more time."""
    remat: Annotated[Literal["none", "layer", "projections"] | None, Shown("WHAT", "see --mesh")] = None
    """What the backward pass makes again instead of keeping: nothing, all of a layer, or all but its products."""
    attention: Literal["auto", "plain", "xla", "cudnn", "splash"] = "auto"
    """The form of attention; auto takes the fused one where the device has it: cudnn on a GPU, splash on a TPU."""
    mesh: Annotated[str | None, Shown("AXES", MESH)] = None
    """Devices, as in data=2,fsdp=4,tensor=1."""
    distributed: bool = False
    """One of several processes: the same command runs on every host."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Who compares answers."""

    judge: Annotated[tuple[str, ...], Shown("JUDGE...", "none, which only sft can do with")] = ()
    """A folder of mpo train-judge, a model that is asked, http(s)://host/v1, or a Python function as module:name or
    path.py:name; several are a population, of which one member answers each comparison."""
    judge_weights: Annotated[tuple[float, ...], Shown("NUMBER...", "equal")] = ()
    """How often each member of a population of judges is asked, one number for each, in any unit."""
    judge_aggregation: Annotated[Literal["draw", "mean"] | None, Shown("{draw,mean}", "draw")] = None
    """A population answers by one member that is drawn by weight, or by the weighted mean of all."""
    judge_model: Annotated[tuple[str, ...], Shown("NAME...", "none")] = ()
    """The model's name at an HTTP judge; one for all of them, or one for each."""
    judge_criterion: Annotated[
        tuple[str, ...], Shown("TEXT...", "the more helpful and accurate one, no longer than needed")
    ] = ()
    """What a judge that is asked, over HTTP or a model's folder, compares by: a question. Several count as a judge
    each."""
    judge_field: Annotated[str | None, Shown("NAME", "the reply is the verdict")] = None
    """An HTTP judge replies with a JSON object, whose field of this name is A, B or TIE."""
    judge_max_tokens: Annotated[int | None, Shown("NUMBER", "8")] = None
    """Most tokens of an HTTP judge's reply; one that reasons first needs hundreds or thousands."""
    judge_request_fields: Annotated[str | None, Shown("JSON", "none")] = None
    """Further fields of an HTTP judge's requests, such as '{"seed": 0}'; null leaves one out that would be sent."""
    judge_key_variable: Annotated[tuple[str, ...], Shown("NAME...", "OPENAI_API_KEY")] = ()
    """The environment variable that holds an HTTP judge's key, if it needs one; one for all, or one for each."""
    judge_mesh: Annotated[str | None, Shown("AXES", "as --mesh")] = None
    """Devices of a local judge, as in fsdp=4: the last ones, apart from those of --mesh, or all of them."""
    judge_concurrency: Annotated[int | None, Shown("NUMBER", "8")] = None
    """Comparisons that an HTTP judge is asked at the same time."""
    judge_timeout: Annotated[float | None, Shown("SECONDS", "60")] = None
    """Seconds that an HTTP judge may take for a comparison."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows of a file: prompts or preferences."""

    dataset_name: Path
    """A .jsonl, .jsonl.gz, .parquet or .csv file, or a data set of the Hugging Face hub, as owner/name or
    owner/name#split=test, in one of TRL's dataset types."""
    on_bad_row: Literal["abort", "skip"] = "abort"
    """Stop at a row that cannot be used, or leave it out and count it."""


@dataclass(frozen=True, kw_only=True)
class Prompts(Data):
    """Rows whose prompts go through a chat template, where they are messages."""

    chat_template_kwargs: Annotated[str | None, Shown("JSON", "none")] = None
    """What the chat template is given besides messages, as in '{"enable_thinking": false}'; a row's own win."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that writes checkpoints and goes on from them."""

    output_dir: Path
    """The run's directory."""
    resume: bool = False
    """Go on from the newest whole checkpoint in it, if there is one."""
    save_steps: int = 25
    """Rounds from one checkpoint to the next."""
    save_minutes: float = 5.0
    """Minutes from one checkpoint to the next; whichever of the two comes first."""
    save_total_limit: int = 2
    """Checkpoints that are kept."""
    report_to: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Shown("TRACKERS", "none")] = ()
    """What is fed besides metrics.jsonl."""
    seed: int = 0
    """Of every draw."""
    lora_r: int = 0
    """Rank of an adapter that is trained instead of the weights; 0 for none."""
    lora_alpha: float = 16.0
    """alpha / rank is the adapter's factor."""
    lora_target_modules: Annotated[tuple[str, ...], Shown("NAME...", "all-linear")] = ()
    """Linear maps that the adapter is on, by their names in the checkpoint, as q_proj v_proj."""
    quiet: bool = False
    """Print nothing but errors."""


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How the win rate is measured while training."""

    eval_dataset_name: Annotated[Path | None, Shown("FILE", "a share of the prompts")] = None
    """Prompts on which the win rate against the start is measured, as the judge sees it; take 8 or more."""
    eval_share: Annotated[float | None, Shown("NUMBER", SHARE)] = None
    """Share of the prompts that is held out for the win rate where no --eval-dataset-name is given, at most 128 of
    them, the same in every run; less than 8 prompts are not held out, and there is no win rate. 0 turns it off."""
    eval_steps: int = 25
    """Rounds from one win rate to the next; it is also measured before the first round and after the last."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn in a round."""

    prompts_per_round: int = 16
    """Prompts in a round, over all devices."""
    num_generations: Annotated[int | None, Shown("NUMBER", "the method's, 16 for mpo")] = None
    """Answers to each prompt, which are compared with each other."""
    opponents: Annotated[int | None, Shown("NUMBER", "all")] = None
    """How many others of its group each answer is compared with; an even number."""
    max_prompt_length: int = 512
    """Most tokens of a prompt."""
    max_new_tokens: int = 128
    """Most tokens of an answer."""
    temperature: float = 1.0
    """What the policy's logits are divided by wherever it is met: drawn from, trained, compared, exported."""


@dataclass(frozen=True, kw_only=True)
class Engines:
    """Who draws, if it is not this process."""

    engine: Annotated[str | None, Shown("URL", "answers are drawn here")] = None
    """A server that draws the answers of a round, as http(s)://host/v1: of vLLM, SGLang, or mpo serve."""
    engine_model: Annotated[str | None, Shown("NAME", "the first that it serves")] = None
    """The model's name at the engine."""
    engine_folder: Annotated[Path | None, Shown("FOLDER", "OUTPUT_DIR/engine")] = None
    """Where the weights are handed over: a folder of this run alone, which the engine sees under the same name."""
    engine_timeout: float = 600.0
    """Seconds that the engine may take for the answers to a prompt, or to load weights."""
    engine_key_variable: Annotated[str | None, Shown("NAME", "no key")] = None
    """The environment variable that holds the engine's key, if it needs one."""
    max_staleness: int = 0
    """Rounds that the engine's weights may be older than the trained ones; 0 hands them over in every round."""


@dataclass(frozen=True, kw_only=True)
class Updating:
    """The update, and the magnet."""

    eta: Annotated[float | None, Shown("NUMBER", "the most tokens of an answer")] = None
    """Step size: the pull to the round's first policy is 1 / eta, in win rate per nat of an answer."""
    alpha: Annotated[float | None, Shown("NUMBER", "0.2 / eta")] = None
    """Regularization towards the magnet, in the same unit (the KL coefficient)."""
    magnet: Annotated[str | None, Shown("MAGNET", MAGNET)] = None
    """How the magnet moves: fixed, refresh=40 (rounds), moving=0.025 (rate), moving=0.05,power=4 (whose rate falls), or
    a magnet from outside (module:name, path.py:name)."""
    weights: Annotated[Literal["last", "magnet"] | None, Shown("WEIGHTS", WEIGHTS)] = None
    """What policy/ holds and the win rate is of: the last iterate, or the magnet."""
    num_iterations: Annotated[int | None, Shown("NUMBER", "the method's, 4 for mpo")] = None
    """Optimizer steps in a round."""
    replay: Annotated[int | None, Shown("ROUNDS", "none")] = None
    """Learn again from the answers and verdicts of so many earlier rounds, weighed by how likely they have become."""
    spread_draws: bool = False
    """Spread a group's answers evenly over what the policy may say, and compare its two halves with each other."""
    gradient_accumulation_steps: Annotated[int | None, Shown("NUMBER", "the fewest that fit into memory")] = None
    """Parts in which a round's prompts go through the model."""


@dataclass(frozen=True, kw_only=True)
class Optimizing:
    """The optimizer."""

    learning_rate: Annotated[float | None, Shown("NUMBER", RATE)] = None
    """Of Adam; falls to 0 over the run."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls."""
    warmup_steps: int = 0
    """Rounds over which the learning rate rises first."""
    weight_decay: float = 0.0
    """Of AdamW; norms and biases do not decay."""
    adam_beta1: Annotated[float | None, Shown("NUMBER", "the method's, 0.9 for mpo")] = None
    """Take 0 with --num-iterations 1."""
    adam_beta2: Annotated[float | None, Shown("NUMBER", "the method's, 0.999 for mpo")] = None
    """Decay of the second moment."""
    adam_epsilon: Annotated[float | None, Shown("NUMBER", "by the number of weights")] = None
    """Large, because gradients near an equilibrium are noise."""
    max_grad_norm: Annotated[float | None, Shown("NUMBER", "none")] = None
    """Gradients are scaled down to it."""


@dataclass(frozen=True, kw_only=True)
class Train(Measuring, Drawing, Engines, Updating, Optimizing, Run, Prompts, Judging, Model):
    """Train a model against itself on preferences between its own answers (MPO)."""

    method: Annotated[str, Shown(help=METHOD_HELP)] = "mpo"
    max_steps: int = 500
    """Rounds; each draws answers, compares them, learns and moves the magnet."""
    set: Annotated[tuple[str, ...], Shown("NAME=VALUE...", "none")] = ()
    """Further settings of the method, such as share=0.25, watch_start=false or estimator=regression."""

    def __post_init__(self) -> None:
        if not names_code(self.method):  # names of methods take - and _ alike
            object.__setattr__(self, "method", self.method.replace("-", "_"))


@dataclass(frozen=True, kw_only=True)
class TrainJudge(Run, Data, Model):
    """Train a judge on preferences: a model that reads both answers."""

    eval_dataset_name: Annotated[Path | None, Shown("FILE", "none")] = None
    """Preferences that the judge is tested on."""
    num_train_epochs: float = 1.0
    """How often every row is seen."""
    per_device_train_batch_size: int = 16
    """Rows in a step."""
    learning_rate: float = 1e-5
    """Of AdamW; rises, then falls to 0."""
    weight_decay: float = 0.01
    """Of AdamW."""
    max_length: int = 1024
    """Most tokens of a prompt with both answers; what exceeds it is cut off."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn."""

    max_new_tokens: int = 128
    """Most tokens of an answer."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: Annotated[float | None, Shown("NUMBER", "none")] = None
    """Draw from the fewest tokens that have this probability."""
    top_k: Annotated[int | None, Shown("NUMBER", "none")] = None
    """Draw from the k likeliest tokens."""
    num_generations: int = 1
    """Answers to each prompt."""
    batch_size: int = 32
    """Answers that are drawn at a time."""
    seed: int = 0
    """Of every draw."""


@dataclass(frozen=True, kw_only=True)
class Generate(Sampling, Prompts, Model):
    """Answer the prompts of a file."""

    output_file: Path
    """A .jsonl file with a line for each answer: prompt, response, sample."""


@dataclass(frozen=True, kw_only=True)
class Eval(Sampling, Prompts, Judging):
    """Compare models: win rates with intervals, lengths, and the Nash lottery of the table."""

    judge: Annotated[tuple[str, ...], Shown("JUDGE...")] = field()
    """A folder of mpo train-judge, a model that is asked, http(s)://host/v1, or a Python function as module:name or
    path.py:name; several are a population, of which one member answers each comparison."""
    models: Annotated[Positional[tuple[str, ...]], Shown("NAME=MODEL...")]
    """Folders, hub ids, run directories, or .jsonl files of mpo generate."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Shown("DTYPE", "the files'")] = None
    """Precision of the weights."""
    family: Annotated[str | None, Shown("FAMILY", "found by the model_type of config.json")] = None
    """A model family from outside this package, as module:name or path.py:name, of all models whose model_type is not
    built in."""
    output_dir: Annotated[Path | None, Shown("FOLDER", "not written")] = None
    """Write eval.json, every verdict (comparisons.jsonl), and the answers of every model that has drawn them now."""
    exploit: bool = False
    """Look for what beats each model, as mpo exploit does; the other models are adversaries too. Needs --output-dir."""
    exploit_from: Annotated[str | None, Shown("MODEL", "none")] = None
    """The model that their training began with, from which adversaries are trained as well."""
    exploit_config: Annotated[Path | None, Shown("FILE", "none")] = None
    """Further options of mpo exploit, in YAML."""

    def __post_init__(self) -> None:
        """Models that are typed behind the judges are no judges."""
        n = next((i for i, word in enumerate(self.judge) if re.match(r"\w[\w .+-]*=", word)), len(self.judge))
        object.__setattr__(self, "models", (*self.judge[n:], *self.models))
        object.__setattr__(self, "judge", self.judge[:n])


@dataclass(frozen=True, kw_only=True)
class Exploit(Run, Prompts, Judging, Model):
    """Look for what beats a model: trained adversaries bound its exploitability from below."""

    model_name_or_path: Annotated[Positional[str], Shown("MODEL")]
    """The model that is looked at: a folder, a hub id, a run's directory, or an adapter."""
    judge: Annotated[tuple[str, ...], Shown("JUDGE...")] = field()
    """A folder of mpo train-judge, a model that is asked, http(s)://host/v1, or a Python function as module:name or
    path.py:name; several are a population, of which one member answers each comparison."""
    start: Annotated[str | None, Shown("MODEL", "none", "from")] = None
    """The model that MODEL's own training began with: a second adversary begins there."""
    against: Annotated[tuple[str, ...], Shown("NAME=MODEL...", "none")] = ()
    """Other models, or .jsonl files of their answers, that are adversaries as they are."""
    eval_dataset_name: Annotated[Path | None, Shown("FILE", "half of --dataset-name")] = None
    """Prompts on which the best adversary is reported; adversaries are trained and selected on all others."""
    max_steps: int = 100
    """Rounds of each adversary's training."""
    prompts_per_round: int = 16
    """Prompts in a round."""
    num_generations: int = 16
    """Answers of an adversary to each prompt of a round."""
    opponents: Annotated[int | None, Shown("NUMBER", "8")] = None
    """Answers of MODEL that each of them meets; drawn anew in every round."""
    max_prompt_length: int = 512
    """Most tokens of a prompt."""
    max_new_tokens: int = 128
    """Most tokens of an answer."""
    eta: Annotated[float | None, Shown("NUMBER", "--max-new-tokens")] = None
    """Step size: the pull to the round's first policy is 1 / eta, in win rate per nat of an answer."""
    num_iterations: int = 4
    """Optimizer steps in a round."""
    gradient_accumulation_steps: int = 1
    """Parts in which a round's prompts go through the model."""
    learning_rate: Annotated[float | None, Shown("NUMBER", RATE)] = None
    """Of Adam; falls linearly to 0."""
    answers: int = 4
    """Answers of each model to each prompt on which adversaries are selected or reported; all pairs are compared."""
    batch_size: int = 32
    """Answers that are drawn at a time then."""


@dataclass(frozen=True, kw_only=True)
class ReportOnJudge(Sampling, Judging):
    """Look at a judge before training: cycles, order, length, and whether a scalar reward would do."""

    judge: Annotated[tuple[str, ...], Shown("JUDGE...")] = field()
    """A folder of mpo train-judge, a model that is asked, http(s)://host/v1, or a Python function as module:name or
    path.py:name; several are a population, of which one member answers each comparison."""
    answers: Annotated[Path | None, Shown("FILE", "drawn by --model")] = None
    """A .jsonl file of mpo generate, or of your own: a prompt and a response a line, several lines a prompt."""
    model: Annotated[str | None, Shown("MODEL", "none")] = None
    """What answers the prompts of --dataset-name: a folder, a hub id, or a run directory."""
    dataset_name: Annotated[Path | None, Shown("FILE", "none")] = None
    """Prompts for --model, as --dataset-name of mpo train."""
    on_bad_row: Literal["abort", "skip"] = "abort"
    """Stop at a row that cannot be used, or leave it out and count it."""
    chat_template_kwargs: Annotated[str | None, Shown("JSON", "none")] = None
    """What the chat template is given besides messages, as in '{"enable_thinking": false}'; a row's own win."""
    num_generations: int = 6
    """Answers to each prompt that are drawn."""
    repeats: int = 3
    """How often each pair is asked about; a judge that says the same the second time is not asked again."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Shown("DTYPE", "the files'")] = None
    """Precision of the model's weights."""
    family: Annotated[str | None, Shown("FAMILY", "found by the model_type of config.json")] = None
    """A model family from outside this package, as module:name or path.py:name."""
    output_dir: Annotated[Path | None, Shown("FOLDER", "not written")] = None
    """Write report.json, every verdict (verdicts.jsonl), and the answers if they are drawn (answers.jsonl)."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write what a run has reached as a Hugging Face folder."""

    run: Annotated[Positional[Path], Shown("RUN")]
    """A directory of mpo train; its newest whole checkpoint is taken."""
    output_dir: Path
    """The folder; must not exist, or be empty."""
    weights: Annotated[Literal["last", "magnet", "policy"] | None, Shown("WEIGHTS", "the run's")] = None
    """The last iterate (policy is its older name), or the magnet."""
    method: Annotated[str | None, Shown("METHOD", "the run's")] = None
    """The run's method again, if it is from outside this package: no run folder brings code in."""
    magnet: Annotated[str | None, Shown("MAGNET", "the run's")] = None
    """The run's magnet again, if it is from outside this package."""
    family: Annotated[str | None, Shown("FAMILY", "the run's")] = None
    """The run's model family again, if it was given."""
    merge: bool = False
    """Add an adapter to its base instead of writing it alone."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Write a model of another format as a Hugging Face folder."""

    format: Annotated[Positional[Literal["gguf"]], Shown("gguf")]
    """The format, that of llama.cpp, quantised or not; needs the extra gguf."""
    file: Annotated[Positional[Path], Shown("FILE")]
    """A .gguf file of the architecture llama."""
    output_dir: Annotated[Positional[Path], Shown("FOLDER")]
    """The folder; must not exist, or be empty."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights as they are written."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Say what training would need on chips that need not be here: memory, time, money. Nothing is loaded."""

    model: Annotated[Positional[str], Shown("MODEL")]
    """A folder with config.json, or a model's id on the Hugging Face hub; only the configuration is read."""
    topology: str
    """The chips, as in v5e:4x4, v5p:4x4x4, v6e:2x4, h100:8 or a100:16."""
    mesh: Annotated[str | None, Shown("AXES", "the fastest that fits")] = None
    """Devices, as in data=2,fsdp=4,tensor=1."""
    search: bool = False
    """List the best parts and --remat of each mesh, the fastest first."""
    estimate: bool = False
    """Do without the compiler; without libtpu (jax[tpu]), and for GPUs, there is none anyway."""
    family: Annotated[str | None, Shown("FAMILY", "found by the model_type of config.json")] = None
    """A model family from outside this package, as module:name or path.py:name."""
    judge: Annotated[str | None, Shown("MODEL", "none")] = None
    """A local judge, that reads every pair of answers twice."""
    judge_mesh: Annotated[str | None, Shown("AXES", "as the policy's")] = None
    """Devices of the judge, as in fsdp=4: some of the chips, which the policy does without, or all of them."""
    dtype: Annotated[Literal["float32", "bfloat16"] | None, Shown("DTYPE", "bfloat16")] = None
    """Precision of the weights that are loaded; what is trained is float32."""
    compute_dtype: Annotated[Literal["float32", "bfloat16"] | None, Shown("DTYPE", "bfloat16")] = None
    """Precision of activations."""
    remat: Annotated[Literal["none", "layer", "projections"] | None, Shown("WHAT", "the fastest that fits")] = None
    """What the backward pass makes again instead of keeping: nothing, all of a layer, or all but its products."""
    attention: Literal["auto", "plain", "xla", "cudnn", "splash"] = "auto"
    """The form of attention."""
    lora_r: int = 0
    """Rank of an adapter that is trained instead of the weights; 0 for none."""
    lora_target_modules: Annotated[tuple[str, ...], Shown("NAME...", "all-linear")] = ()
    """Linear maps that the adapter is on, as q_proj v_proj."""
    prompts_per_round: int = 16
    """Prompts in a round, over all devices."""
    num_generations: int = 16
    """Answers to each prompt."""
    batch: Annotated[int | None, Shown("ROWS", "prompts times answers")] = None
    """Rows of a round, in place of --prompts-per-round: a multiple of --num-generations."""
    max_prompt_length: int = 512
    """Most tokens of a prompt."""
    max_new_tokens: int = 128
    """Most tokens of an answer."""
    num_iterations: int = 4
    """Optimizer steps in a round."""
    replay: int = 0
    """Earlier rounds from whose answers each round learns again."""
    gradient_accumulation_steps: Annotated[int | None, Shown("NUMBER", "the fastest that fits")] = None
    """Parts in which a round's prompts go through the model."""
    max_steps: int = 500
    """Rounds of the run."""
    price: Annotated[float | None, Shown("NUMBER", "none")] = None
    """Of a chip for an hour."""
    set: Annotated[tuple[str, ...], Shown("NAME=VALUE...", "none")] = ()
    """Further settings, of which first_moment=bfloat16 and watch_start=true change the memory."""
    output_file: Annotated[Path | None, Shown("FILE", "not written")] = None
    """A .json file of the plan."""

    def __post_init__(self) -> None:
        """Rows of a round as prompts; what does not divide is left for the answers' number to complain about."""
        if self.batch is not None and self.batch % self.num_generations == 0:
            object.__setattr__(self, "prompts_per_round", self.batch // self.num_generations)


@dataclass(frozen=True, kw_only=True)
class Serve(Model):
    """Serve a model as an engine of mpo train --engine, by the protocol of vLLM; to try it on one machine."""

    model_name_or_path: Annotated[Positional[str], Shown("MODEL")]
    """A folder with config.json and safetensors, or a model's id on the Hugging Face hub."""
    name: Annotated[str | None, Shown("NAME", "MODEL")] = None
    """What requests call the model."""
    host: str = "127.0.0.1"
    """The address that is listened to; whoever reaches it can have folders of this machine loaded."""
    port: int = 8000
    """The port."""


@dataclass(frozen=True)
class Report:
    """Show runs side by side on one page of HTML: curves, win rates, answers, settings. It needs no network."""

    runs: Annotated[Positional[tuple[Path, ...]], Shown("RUN...")]
    """Directories of mpo train, train-judge, eval, exploit and judge-report; a training may still be going on."""
    out: Path = Path("report.html")
    """The page: .html."""


@dataclass(frozen=True)
class Env:
    """Print versions and devices, for bug reports."""


Command = Train | TrainJudge | Generate | Eval | ReportOnJudge | Exploit | Serve | Report | Plan | Export | Import | Env
BY_NAME: dict[str, type] = {
    "train": Train,
    "train-judge": TrainJudge,
    "generate": Generate,
    "eval": Eval,
    "judge-report": ReportOnJudge,
    "exploit": Exploit,
    "serve": Serve,
    "report": Report,
    "plan": Plan,
    "export": Export,
    "import": Import,
    "env": Env,
}
PROGRAM = Program(
    "mpo",
    "Train language models by self-play on preferences, and compare them. Options may also stand in a YAML file, "
    "--config FILE; those of the command line win.",
    BY_NAME,
    {
        "train": ("train", "train-judge", "plan"),
        "answer and measure": ("generate", "serve", "eval", "exploit", "judge-report"),
        "show and hand on": ("report", "export", "import", "env"),
    },
    lambda: {"methods (--method)": METHODS, "magnets (--magnet)": MAGNETS, "model families": FAMILIES},
)
# Options of TRL, transformers and vLLM that have another name here, and what is typed instead, the best first. What is
# not an option of the command at hand is never suggested (`mmd.host.command_line.hint`).
ELSEWHERE: dict[str, tuple[str, ...]] = {
    "beta": ("--alpha",),
    "kl_coef": ("--alpha",),
    "init_kl_coef": ("--alpha",),
    "lr": ("--learning-rate",),
    "model": ("--model-name-or-path",),
    "model_name_or_path": ("--model",),
    "model_name": ("--model-name-or-path",),
    "model_path": ("--model-name-or-path",),
    "dataset": ("--dataset-name",),
    "train_file": ("--dataset-name",),
    "eval_dataset": ("--eval-dataset-name",),
    "dataset_test_split": ("--eval-dataset-name",),
    "validation_file": ("--eval-dataset-name",),
    "reward_model_path": ("--judge",),
    "reward_funcs": ("--judge",),
    "loss_type": ("--method",),
    "per_device_train_batch_size": ("--prompts-per-round", "--batch-size"),
    "per_device_eval_batch_size": ("--batch-size",),
    "train_batch_size": ("--prompts-per-round", "--per-device-train-batch-size"),
    "batch_size": ("--prompts-per-round", "--per-device-train-batch-size"),
    "num_train_epochs": ("--max-steps",),
    "epochs": ("--max-steps", "--num-train-epochs"),
    "max_steps": ("--num-train-epochs",),
    "num_ppo_epochs": ("--num-iterations",),
    "max_length": ("--max-prompt-length and --max-new-tokens", "--max-new-tokens"),
    "max_seq_length": ("--max-prompt-length and --max-new-tokens", "--max-length", "--max-new-tokens"),
    "max_completion_length": ("--max-new-tokens",),
    "max_tokens": ("--max-new-tokens",),
    "response_length": ("--max-new-tokens",),
    "n": ("--num-generations",),
    "num_return_sequences": ("--num-generations",),
    "do_sample": ("--temperature",),
    "bf16": ("--compute-dtype bfloat16", "--dtype bfloat16"),
    "fp16": ("--compute-dtype bfloat16", "--dtype bfloat16"),
    "fp32": ("--dtype float32",),
    "torch_dtype": ("--dtype",),
    "use_peft": ("--lora-r 8",),
    "lora_rank": ("--lora-r",),
    "target_modules": ("--lora-target-modules",),
    "warmup_ratio": ("--warmup-steps",),
    "lr_scheduler": ("--lr-scheduler-type",),
    "adapter": ("--model-name-or-path",),
    "adapter_name_or_path": ("--model-name-or-path",),
    "ref_model": ("--magnet fixed",),
    "sync_ref_model": ("--magnet refresh=40",),
    "ref_model_sync_steps": ("--magnet refresh=ROUNDS",),
    "ref_model_mixup_alpha": ("--magnet moving=RATE",),
    "resume_from_checkpoint": ("--resume",),
    "save_strategy": ("--save-steps or --save-minutes",),
    "eval_strategy": ("--eval-steps",),
    "evaluation_strategy": ("--eval-steps",),
    "logging_dir": ("--output-dir",),
    "output": ("--output-dir", "--output-file", "--out"),
    "output_dir": ("--output-file", "--out"),
    "output_file": ("--output-dir", "--out"),
    "out": ("--output-dir", "--output-file"),
    "tensor_parallel_size": ("--mesh tensor=NUMBER",),
    "use_vllm": ("--engine http://HOST:8000/v1",),
    "vllm_server_base_url": ("--engine",),
    "served_model_name": ("--name",),
}
# What `mpo train` has not, and why.
CUT = (
    "mpo train draws from the policy that it trains, and {} would draw from another one, in which the tokens that are "
    "left out have the probability 0; mpo generate and mpo eval have it"
)
REFUSED = {name: CUT.format(f"--{name.replace('_', '-')}") for name in ("top_p", "top_k", "min_p")}
