"""The toy surface: points on a curved surface in space, a benchmark of preference losses with a published table.

Specified in arXiv 2608.20011, App. E.1. A sample is a picture of a cloud of points that carries their coordinates, so
that pairs, images, scores, tables and report are those of every other benchmark.
"""
