"""The audit of the safeguard: what its bound in output space is worth in parameter space, and after a real step.

:mod:`~sdpo.audit.first_order` and :mod:`~sdpo.audit.steps` are the mathematics, :mod:`~sdpo.audit.measurement` applies
them to a model and micro-batches of a pair cache, :mod:`~sdpo.audit.summary` and :mod:`~sdpo.audit.figure` condense the
rows, and :mod:`~sdpo.audit.command` is ``sdpo audit``.
"""
