"""Reading published pairs: files and their digests, comparisons, splits, streaming."""
