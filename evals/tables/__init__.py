"""Comparison tables of a benchmark, written from its score files."""

from evals.tables.write import made_with, print_table, write_tables

__all__ = ["made_with", "print_table", "write_tables"]
