"""Text before it is a number: tokenizers and chat templates, rows of data files, rows as token ids.

This room may import `llm_bridge.model`. Read `data.py` first: it says which rows are read and which are refused.
"""
