"""The files that pass between stages: where they lie, what they hold, how they are written.

This is the bottom layer of the project: it imports nothing of ``sdpo``, ``evals``, ``miniature`` or
``pipeline``, and nothing heavier than pyarrow, and that only where a table is read or written.
"""
