"""Other solvers beside ours: `setup.sh` makes their environments, `run_*.py` run there, `__main__` compares."""
