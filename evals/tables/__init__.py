"""Comparison tables of a benchmark, written from its score files."""

from evals.tables.write import print_table, write_tables

__all__ = ["print_table", "write_tables"]
