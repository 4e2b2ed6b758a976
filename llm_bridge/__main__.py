"""`python -m llm_bridge` is `mpo`."""

from llm_bridge.cli import entry

if __name__ == "__main__":
    entry()
