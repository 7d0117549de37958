"""Worlds small enough to be trained here: clients of sdpo and evals, as any package of a user's own would be."""
