"""The config of a benchmark: typed models, one module a block, which are its only source.

Defaults, JSON schema, key reference and error messages all come from these models.
"""

from artifacts.validation import ConfigError
from pipeline.config.benchmark import Benchmark
from pipeline.config.loading import load, validate

__all__ = ["Benchmark", "ConfigError", "load", "validate"]
