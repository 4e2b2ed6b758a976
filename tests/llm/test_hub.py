"""Data sets by their ids: a server that answers as the hub does, on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

from llm_bridge.text import data, hub

CARD = """---
configs:
- config_name: short
  data_files:
  - split: train
    path: rows/short-*
  - split: test
    path: [rows/held.jsonl]
- config_name: default
  data_files: rows/short-2.jsonl
---
# A data set
"""


def lines(*prompts: str) -> bytes:
    return b"".join(json.dumps({"prompt": prompt}).encode() + b"\n" for prompt in prompts)


REPOS: dict[tuple[str, str], dict[str, bytes]] = {
    ("me/named", "main"): {
        "train.jsonl": lines("a", "b"),
        "test.jsonl": lines("c"),
        "script.py": b"raise SystemExit('never run')",
    },
    ("me/named", "v1"): {"train.jsonl": lines("old")},
    ("me/listed", "main"): {
        "README.md": CARD.encode(),
        "rows/short-1.jsonl": lines("s1"),
        "rows/short-2.jsonl": lines("s2"),
        "rows/held.jsonl": lines("h"),
    },
    ("me/images", "main"): {"a.png": b"\x89PNG"},
    ("me/several", "main"): {"one/train.csv": b"prompt\nx\n", "two/train.csv": b"prompt\ny\n"},
}


class Hub(BaseHTTPRequestHandler):
    """The list of a repository's files, and files."""

    asked: list[str]

    def do_GET(self) -> None:
        self.answer(True)

    def do_HEAD(self) -> None:
        self.answer(False)

    def answer(self, has_body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.server.asked.append(path)  # type: ignore[attr-defined]
        for (repo, revision), files in REPOS.items():
            self.commit = hashlib.sha1(f"{repo} {revision}".encode()).hexdigest()
            if path == f"/api/datasets/{repo}/tree/{revision}":
                listed = [{"type": "file", "path": name, "size": len(b), "oid": "1"} for name, b in files.items()]
                return self.send(json.dumps(listed).encode(), "application/json", has_body)
            for name, content in files.items():
                if path == f"/datasets/{repo}/resolve/{revision}/{name}":
                    return self.send(content, "application/octet-stream", has_body)
        return self.send(b"{}", "application/json", has_body, 404)

    def send(self, body: bytes, kind: str, has_body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "ETag": f'"{abs(hash(body))}"',
            "X-Repo-Commit": self.commit,
            **({"X-Error-Code": "EntryNotFound"} if status == 404 else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in, as the hub of this process, and an empty cache."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    template = constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.chdir(tmp_path)
    yield made
    made.shutdown()
    made.server_close()


def prompts(name: str) -> list[Any]:
    return [row.prompt for row in data.load(name).rows]


def test_splits_by_names_and_by_the_card(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prompts("me/named") == ["a", "b"]
    assert prompts("me/named#split=test") == ["c"]
    assert prompts("me/named#revision=v1") == ["old"]
    assert prompts("me/listed") == ["s2"]  # the default configuration
    assert prompts("me/listed#config=short") == ["s1", "s2"]
    assert prompts("me/listed#config=short,split=test") == ["h"]
    assert prompts("me/several#config=two") == ["y"]
    assert data.load("me/named").rows[1].where == "me/named: train.jsonl:2"
    assert not [path for path in server.asked if path.endswith(".py")]
    before = data.digest("me/named")
    assert before != data.digest("me/named#split=test")
    assert data.absolute(Path("me/named")) == Path("me/named")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert prompts("me/named") == ["a", "b"]  # from the cache
    assert data.digest("me/named") == before


FAULTS = {
    "me/nothing": r"me/nothing: no file of this name, and not to be had from the hub",
    "me/images": r"me/images: has no file that ends in .parquet or .*, and the hub has converted none",
    "me/several": r"me/several: has several configurations, expected one of one, two, as in me/several#config=one",
    "me/named#split=dev": r"me/named: has no split 'dev', expected one of test, train, as in me/named#split=test",
    "me/named#config=x": r"me/named: has no configuration 'x', expected one of default",
    "me/named#subset=x": r"me/named#subset=x: expected config=NAME, split=NAME, revision=NAME behind #, got 'subset=x'",
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_not_there_is_said_in_a_sentence(name: str, server: Any) -> None:
    with pytest.raises(data.DataError, match=FAULTS[name]) as refusal:
        data.load(name)
    assert "\n" not in str(refusal.value)


def test_files_of_many_parts_and_of_the_hubs_conversion() -> None:
    ends = data.ENDS
    parts = [f"data/train_sft-0000{i}-of-00002.parquet" for i in range(2)]
    assert hub._by_name([*parts, "data/test_sft-00000-of-00001.parquet", "README.md"], ends) == {
        ("default", "train_sft"): parts,
        ("default", "test_sft"): ["data/test_sft-00000-of-00001.parquet"],
    }
    converted = ["main/partial-train/0000.parquet", "main/test/0000.parquet", "other/test/0000.parquet"]
    assert set(hub._by_name(converted, ends)) == {("main", "train"), ("main", "test"), ("other", "test")}
    assert hub._by_name(["en/validation.jsonl", "rows.csv"], ends) == {("en", "validation"): ["en/validation.jsonl"]}
    assert not hub.names_one(Path("me/rows.jsonl"), ends)
    assert not hub.names_one(Path("rows"), ends)
