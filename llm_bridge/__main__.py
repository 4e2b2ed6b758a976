"""`python -m llm_bridge` is `mpo`."""

from llm_bridge.command.cli import entry

if __name__ == "__main__":
    entry()
