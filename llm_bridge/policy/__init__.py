"""A language model as a policy: log-probabilities, divergences from a magnet, generation.

This room may import `llm_bridge.text` and `llm_bridge.model`. Read `policy.py` first.
"""
