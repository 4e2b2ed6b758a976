"""How good a policy is: win rates and their intervals, models against each other, judges against labels.

This room may import `llm_bridge.train` and what lies below it. Read `win_rate.py` first.
"""
