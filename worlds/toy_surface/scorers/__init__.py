"""Scorers of the toy surface: columns of the published table, one module each."""
