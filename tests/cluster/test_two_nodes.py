from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import ClusterBenchmark

TRAINING = "results/small/jobs/train/dpo/0.json"


def test_a_training_on_two_nodes_that_is_cancelled_goes_on_to_the_model_of_two_processes(
    tmp_path: Path, pairs: ClusterBenchmark, two_nodes: Any, eventually: Callable[..., None]
) -> None:
    """To the bit, though each node has its own launcher; each process holds half of the model."""
    settings = {"steps": 12, "batch_size": 32}
    local, cluster = (pairs.copied(tmp_path / name) for name in ("local", "cluster"))
    for benchmark in (local, cluster):
        benchmark.config = copy.deepcopy(benchmark.config)
        benchmark.config["training"] |= settings
        benchmark.config["execution"] |= {"processes": 2, "sharding": "fsdp2"}
    local.wait(local.start(TRAINING, profile="default"))

    cluster.slurm, cluster.config["execution"]["machines"] = two_nodes, 2
    process = cluster.start(TRAINING)
    eventually(lambda: "loss=" in cluster.training_log(), process, cluster)
    running = two_nodes.command("squeue", "--noheader", "--format=%i|%D|%N").split("|")
    assert running[1:] == ["2", f"{two_nodes.nodes[0]},{two_nodes.nodes[1]}"]
    two_nodes.command("scancel", running[0])
    cluster.wait(process)
    assert "resumed at step" in cluster.training_log()
    assert cluster.weights() == local.weights()
