"""Other programs beside ours: `setup.sh` makes their environments, `run_*.py` run there, `__main__` compares solvers.

Read `protocol.py` first, by which the comparison talks to other environments. Beside the solvers stand
`openspiel_counts.py` (sizes and values of trees) and `beside_trl.py` (a training step of language models).
"""
