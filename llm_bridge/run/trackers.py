"""Where metrics go besides `metrics.jsonl`: TensorBoard files, Weights & Biases.

A tracker has `feed(number, metrics)`, `feed_samples(number, samples)` and `close()`. Whatever one of them raises ends
the tracker and not the run; that is the business of `llm_bridge.run.training_log`.
"""

import importlib
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from llm_bridge.run.samples import COLUMNS, SampleTable

NAMES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}


@runtime_checkable
class Tracker(Protocol):
    """Receives the metrics of every round. Whatever it raises ends the tracker and not the run."""

    def feed(self, number: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a round.

        Args:
            number: of the round, from 1.
            metrics: name -> value, finite ones only.
        """

    def feed_samples(self, number: int, samples: SampleTable) -> None:
        """Take answers after a round; 0 for those before the first."""

    def close(self) -> None:
        """The run is over."""


class TensorBoard:
    """Event files in `tensorboard/`; readers forget rounds that a resumed run repeats."""

    def __init__(self, folder: Path, done: int):
        writer = importlib.import_module("tensorboardX").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=done + 1 if done else None, write_to_disk=True)

    def feed(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write each metric as a scalar at step `number`, and flush."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def feed_samples(self, number: int, samples: SampleTable) -> None:
        """Write the answers as a text, `samples`."""
        self._writer.add_text("samples", samples.markdown(), number)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Wandb:
    """A run at Weights & Biases, or in its offline files; a resumed run goes on with the same one (`wandb/run_id`).

    Project, entity and mode are those of wandb's own environment variables.
    """

    def __init__(self, folder: Path, done: int):
        import yaml

        module: Any = importlib.import_module("wandb")
        file, options = folder / "wandb" / "run_id", folder / "config.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not (done and file.exists()):
            file.write_text(uuid.uuid4().hex)
        config = yaml.safe_load(options.read_text("utf-8")) if options.exists() else None
        self._module = module
        self._run = module.init(dir=str(folder), id=file.read_text(), resume="allow", config=config)

    def feed(self, number: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics as step `number` of the wandb run."""
        self._run.log(dict(metrics), step=number)

    def feed_samples(self, number: int, samples: SampleTable) -> None:
        """Log the answers as a table, `samples`."""
        shown = self._module.Table(columns=list(COLUMNS), data=[list(row) for row in samples.rows])
        self._run.log({"samples": shown}, step=number)

    def close(self) -> None:
        """Finish the wandb run."""
        self._run.finish()


KINDS: dict[str, Callable[[Path, int], Tracker]] = {"tensorboard": TensorBoard, "wandb": Wandb}
LIBRARIES = {"tensorboard": ("tensorboardX", "track"), "wandb": ("wandb", "wandb")}


def tracker(name: str, folder: Path, done: int) -> Tracker | None:
    """A tracker of a run whose first `done` rounds are behind; None, with a warning, where it cannot be had."""
    try:
        return KINDS[name](folder, done)
    except ImportError:
        library, extra = LIBRARIES[name]
        warnings.warn(f"{NAMES[name]} needs {library}: pip install 'magnetic-mirror[{extra}]'", stacklevel=3)
    except Exception as error:
        warnings.warn(f"{NAMES[name]} cannot be fed ({error})", stacklevel=3)
    return None
