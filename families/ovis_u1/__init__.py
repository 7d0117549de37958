"""Ovis-U1 (AIDC-AI/Ovis-U1-3B), whose checkpoint is no pipeline of diffusers: its transformer, file and language part.

Names, shapes and arithmetic are those of the model's own code; none of it is run here. The frozen language part runs
it, in an environment of its own (:mod:`families.ovis_u1.language`).
"""
