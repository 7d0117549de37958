"""The config of a benchmark: typed models, one module a block, which are its only source.

Defaults, JSON schema, key reference and error messages all come from these models.
"""

from pipeline.config.benchmark import Benchmark
from pipeline.config.loading import load, read_yaml, validate
from pipeline.config.problems import ConfigError, Problem

__all__ = ["Benchmark", "ConfigError", "Problem", "load", "read_yaml", "validate"]
