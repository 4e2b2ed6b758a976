"""What a run of training needs besides its mathematics: its checkpoints, logs, signals, several processes.

This room may import `llm_bridge.judges` and what lies below it, but not `llm_bridge.train`. Read `run_state.py` first,
which writes checkpoints; `llm_bridge.command.training_run` says when.
"""
