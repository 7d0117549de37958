"""Commands of ``evals``: those of the stages of a benchmark, and those that work alone."""
