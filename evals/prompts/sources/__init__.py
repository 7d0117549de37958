"""Prompt sources: one module each, found by name; this folder holds nothing else."""
