"""From one config file to jobs: typed settings, the spec of every job, and the commands around the workflow.

The top layer: it joins ``sdpo``, ``evals`` and ``miniature`` for the Snakefile, and none of them imports it.
"""
