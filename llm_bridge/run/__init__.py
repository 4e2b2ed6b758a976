"""What a run needs besides its mathematics: checkpoints, logs, signals, several processes, memory.

This room may import `llm_bridge.judges` and what lies below it, but not `llm_bridge.train`. Read `run_state.py` first.
"""
