"""The report: one self-contained page, and its figures as files."""

from evals.report.page import write_report

__all__ = ["write_report"]
