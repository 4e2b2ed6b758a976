"""What `--help` says: every command and every option once, with its text, and every name that an option takes."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_bridge.command import cli as mpo
from llm_bridge.command import options as mpo_options
from mmd import algorithms
from mmd.command import cli as mmd
from mmd.command import options as mmd_options
from mmd.command.settings import magnet_of
from mmd.host import help as help_text
from mmd.host.command_line import options_of

ROOT = Path(__file__).resolve().parents[1]
OURS, MOST_MODULES = {"mmd", "games", "llm_bridge"}, 200
PROGRAMS = {"mmd": (mmd, mmd_options), "mpo": (mpo, mpo_options)}
EVERY = [(name, word) for name, (_, options) in PROGRAMS.items() for word in options.PROGRAM.commands]


def told(program: str, *words: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert PROGRAMS[program][0].main([*words, "--help"]) == 0
    return capsys.readouterr().out


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_stands_in_one_theme(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    options: Any = PROGRAMS[program][1]
    listed = [name for names in options.PROGRAM.themes.values() for name in names]
    assert sorted(listed) == sorted(options.PROGRAM.commands)
    shown = told(program, capsys=capsys).splitlines()
    for name in listed:
        assert sum(line.startswith(f"  {name} ") for line in shown) == 1


def test_names_that_are_built_in_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert mmd_options.algorithms() == sorted(algorithms.names())
    shown = flat(told("mmd", capsys=capsys))
    assert f"algorithms (--algorithm): {', '.join(mmd_options.algorithms())} which" in shown
    for setting, said in {"alpha": "alpha", "eta": "eta", "magnet": "magnet and --center"}.items():
        takers = [name for name in algorithms.names() if setting in inspect.signature(algorithms.load(name)).parameters]
        assert {"mmd", "mpo"} < set(takers)
        assert f"which take --{said}: {', '.join(takers)} {'magnets' if setting == 'magnet' else 'which'}" in shown
    for name in mmd_options.MAGNETS:
        assert name in type(magnet_of(f"{name}=0.05" if name == "moving" else name, "uniform")).__name__.lower()
    shown = flat(told("mpo", capsys=capsys))
    assert f"methods (--method): {', '.join(mpo_options.METHODS)} magnets" in shown
    assert all(family in shown for family in ("llama", "qwen3_moe", "gpt_neox"))


@pytest.mark.parametrize(("program", "command"), EVERY)
def test_every_option_stands_once_with_its_text(program: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = PROGRAMS[program][1].PROGRAM.commands[command]
    shown = told(program, command, capsys=capsys)
    lines = [line.split()[0] for line in shown.splitlines() if line.startswith("  --")]
    assert sorted(lines) == sorted(f"--{name.replace('_', '-')}" for name in options_of(kind))
    for option in help_text.options(kind):
        assert option.text.partition("(")[0].strip(), f"{program} {command}: {option.typed}"
        assert flat(option.text) in flat(shown)


def test_the_theme_of_an_option_is_the_nearest_class_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: `mpo eval` needs a judge, so its own class has --judge; those of Judging stand below its docstring."""
    shown = told("mpo", "eval", capsys=capsys)
    own, _, judging = shown.partition("\nWho compares answers:\n")
    assert "--judge JUDGE..." in own.splitlines()[0]
    assert "\n  --judge JUDGE..." in own
    assert "\n  --judge-weights NUMBER..." in "\n" + judging
    assert "\n  --judge JUDGE..." not in judging


HELPED = [("mmd", "--help"), ("mmd", "solve", "--help"), ("llm_bridge", "--help"), ("llm_bridge", "train", "--help")]


@pytest.mark.parametrize("words", HELPED, ids=" ".join)
def test_help_imports_little_of_the_standard_library_and_nothing_else(words: tuple[str, ...]) -> None:
    code = f"import sys; begun = {{*sys.modules}}; from {words[0]}.command.cli import main; "
    code += f"assert main({list(words[1:])}) == 0; found = {{*sys.modules}} - begun; "
    code += "others = {name.partition('.')[0] for name in found} - sys.stdlib_module_names; "
    code += f"assert others <= {OURS} and len(found) <= {MOST_MODULES}, (others, len(found))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_command_that_is_none_has_no_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert mmd.main(["slove", "--help"]) == 2
    assert capsys.readouterr().err == "mmd: there is no command 'slove', perhaps you meant solve (try --help)\n"
