"""Runs in MLflow, imported from result files."""
