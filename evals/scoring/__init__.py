"""Scoring images: the stage of a benchmark, folders of images, the cache of scores."""
