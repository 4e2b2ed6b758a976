"""Data sets of the Hugging Face hub: which of their files hold a split; fetched once, then read from the hub's cache.

    owner/name                      the split train, or the only one
    owner/name#split=test           another one
    owner/name#config=main,split=test,revision=v1.0

Where the data set's card lists files for its configurations (`configs` at the top of README.md), they are those.
Without it, folders and names say what a file is, as the hub's own viewer reads them: `main/test/0000.parquet`,
`data/train-00000-of-00002.parquet`, `train.jsonl`. Where there is no file that can be read, those that the hub has
converted to Parquet are read (its branch refs/convert/parquet). No code of a data set is run.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from llm_bridge.model.architecture import BridgeError
from llm_bridge.model.tensor_files import HUB_ID

NAME = re.compile(rf"(?P<id>{HUB_ID})(?:#(?P<settings>[^#]*))?")
SETTINGS = ("config", "split", "revision")
CONVERTED = "refs/convert/parquet"
CARD = "README.md"
TRAIN, DEFAULT = "train", "default"
SPLITS = (TRAIN, "test", "validation", "valid", "val", "dev", "eval")
PART = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}")
Files = dict[tuple[str, str], list[str]]  # by configuration and split


def names_one(path: Path, ends: Sequence[str]) -> bool:
    """Whether a name that is no file here can be that of a data set of the hub.

    Args:
        path: as it was typed.
        ends: of files' names; what has one of them is a file that is not there.
    """
    if not NAME.fullmatch(path.as_posix()) or path.as_posix().lower().endswith(tuple(ends)):
        return False
    return not path.exists() and not path.parent.exists()


def fetch(path: Path, ends: Sequence[str]) -> list[tuple[str, Path]]:
    """The files of a split: what each is called in messages, and where it is now.

    Args:
        path: as `names_one` takes it.
        ends: of the names of files that can be read, the first ones are taken where there are several.

    Raises:
        BridgeError: there is no such data set, configuration or split, or the hub cannot be reached and its files are
            not in the cache.
    """
    from huggingface_hub import hf_hub_download

    name, wanted = _parsed(path)
    revision = wanted.get("revision")
    files, card = _listed(name, revision), ""
    if CARD in files:
        card = _download(hf_hub_download, name, CARD, revision).read_text("utf-8", "replace")
    found = _declared(card, files, ends) or _by_name(files, ends)
    if not found and revision is None:
        revision = CONVERTED
        found = _by_name(_listed(name, revision), ends)
    if not found:
        raise BridgeError(f"{name}: has no file that ends in {' or '.join(ends)}, and the hub has converted none")
    chosen = found[_chosen(name, found, wanted)]
    return [(f"{name}: {file}", _download(hf_hub_download, name, file, revision)) for file in chosen]


def _parsed(path: Path) -> tuple[str, dict[str, str]]:
    """The id, and what is said behind it."""
    found = NAME.fullmatch(path.as_posix())
    assert found is not None
    wanted: dict[str, str] = {}
    for setting in filter(None, (found["settings"] or "").split(",")):
        key, _, value = setting.partition("=")
        if key not in SETTINGS or not value or key in wanted:
            raise BridgeError(
                f"{path}: expected {', '.join(f'{one}=NAME' for one in SETTINGS)} behind #, got {setting!r}"
            )
        wanted[key] = value
    return found["id"], wanted


def _listed(name: str, revision: str | None) -> list[str]:
    """Names of the files of a data set; of those in the cache where the hub cannot be reached."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        return sorted(HfApi().list_repo_files(name, repo_type="dataset", revision=revision))
    except Exception as error:
        try:
            folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
        except Exception:
            if revision == CONVERTED:
                return []
            raise _unreachable(name, error) from None
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _download(download: Any, name: str, file: str, revision: str | None) -> Path:
    try:
        return Path(download(name, file, repo_type="dataset", revision=revision))
    except Exception as error:
        raise _unreachable(f"{name}: {file}", error) from None


def _unreachable(name: str, error: Exception) -> BridgeError:
    reason = str(error).strip().partition("\n")[0]
    return BridgeError(f"{name}: no file of this name, and not to be had from the hub ({reason})")


def _readable(files: Iterable[str], ends: Sequence[str]) -> list[str]:
    """Those that end as wanted: of all formats the one that stands first and is there."""
    files = [file for file in files if not PurePosixPath(file).name.startswith((".", "dataset_info"))]
    by_end = ([file for file in files if file.lower().endswith(end)] for end in ends)
    return next((found for found in by_end if found), [])


def _declared(card: str, files: Sequence[str], ends: Sequence[str]) -> Files:
    """The files that a card lists for configurations and splits; empty where it lists none."""
    import yaml

    head = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    try:
        parsed = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    listed = parsed.get("configs") if isinstance(parsed, Mapping) else None
    found: Files = {}
    for config in listed if isinstance(listed, list) else []:
        if not isinstance(config, Mapping):
            continue
        name = str(config.get("config_name", DEFAULT))
        for split, patterns in _patterns(config.get("data_files")):
            there = [file for file in files if any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns)]
            if there := _readable(there, ends):
                found[name, split] = there
    return found


def _patterns(listed: Any) -> Iterator[tuple[str, list[str]]]:
    """Splits and their patterns, in the forms that a card may have them in."""
    if isinstance(listed, str):
        yield TRAIN, [listed]
    elif isinstance(listed, list) and all(isinstance(one, str) for one in listed):
        yield TRAIN, listed
    elif isinstance(listed, list):
        for one in listed:
            if isinstance(one, Mapping) and isinstance(paths := one.get("path"), str | list):
                yield str(one.get("split", TRAIN)), [paths] if isinstance(paths, str) else list(map(str, paths))


def _by_name(files: Sequence[str], ends: Sequence[str]) -> Files:
    """What folders and names say."""
    found: Files = {}
    for file in _readable(files, ends):
        *folders, last = PurePosixPath(file).parts
        stem = last.partition(".")[0]
        part, first = PART.fullmatch(stem), re.split(r"[-_]", stem)[0]
        inner = folders[-1].removeprefix("partial-") if folders else ""
        if part:
            split = part["split"]
        elif inner in SPLITS or (len(folders) > 1 and stem.isdigit()):
            split = inner
            folders = folders[:-1]
        else:
            split = first if first in SPLITS else TRAIN
        outer = [folder for folder in folders if folder != "data"]
        found.setdefault((outer[0] if outer else DEFAULT, split), []).append(file)
    return found


def _chosen(name: str, found: Files, wanted: Mapping[str, str]) -> tuple[str, str]:
    """The configuration and split that is meant.

    Raises:
        BridgeError: there is none such, or several could be.
    """
    configs = list(dict.fromkeys(config for config, _ in found))
    config = wanted.get("config", DEFAULT if DEFAULT in configs else configs[0])
    if config not in configs or ("config" not in wanted and len(configs) > 1 and config != DEFAULT):
        said = f"has no configuration {config!r}" if "config" in wanted else "has several configurations"
        raise BridgeError(f"{name}: {said}, expected one of {', '.join(configs)}, as in {name}#config={configs[0]}")
    splits = [split for one, split in found if one == config]
    split = wanted.get("split", TRAIN if TRAIN in splits else splits[0])
    if split not in splits or ("split" not in wanted and len(splits) > 1 and split != TRAIN):
        said = f"has no split {split!r}" if "split" in wanted else "has several splits and no train"
        raise BridgeError(f"{name}: {said}, expected one of {', '.join(splits)}, as in {name}#split={splits[0]}")
    return config, split
