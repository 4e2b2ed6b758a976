"""`python -m mmd` is the `mmd` command."""

from mmd.command.cli import entry

if __name__ == "__main__":
    entry()
