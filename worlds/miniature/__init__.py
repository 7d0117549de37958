"""The miniature world: scenes, oracle, preference pairs, and the training of its base and scorers.

A client of ``sdpo`` and ``evals``: it registers its base, pair sources, prompt sets and oracle as any
plug-in would, by entry points.
"""
