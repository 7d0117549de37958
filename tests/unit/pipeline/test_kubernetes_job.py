from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.errors import InputError
from pipeline.kubernetes_job import kubernetes_job

PROFILE = Path(__file__).parents[3] / "profiles/kubernetes"
JOB = {
    "rule": "miniature_base",
    "wildcards": {},
    "output": ["results/build/miniature/base/provenance.json"],
    "threads": 2,
    "resources": {"mem_mb": 3000, "runtime": 60},
}


def script(folder: Path, **changed: Any) -> Path:
    path = folder / "snakejob.sh"
    path.write_text(f"#!/bin/sh\n# properties = {json.dumps({**JOB, **changed})}\ncd /bench && true\n")
    return path


def test_a_job_without_gpus_asks_for_none_and_its_name_is_one_of_kubernetes(tmp_path: Path) -> None:
    job = kubernetes_job(PROFILE / "job.yaml", script(tmp_path), folder=tmp_path)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"cpu": 2, "memory": "3000M"}}
    assert container["command"] == ["bash", str(tmp_path / "snakejob.sh")]
    assert job["metadata"]["name"].startswith("sdpo-bench-miniature-base-")
    assert len(job["metadata"]["name"]) <= 63


def as_the_api_has_it(manifest: dict[str, Any]) -> Any:
    """The manifest after a way through the models of Kubernetes' API, which drop what they do not know."""
    client = pytest.importorskip("kubernetes.client")
    api = client.ApiClient()
    answer = type("Answer", (), {"data": json.dumps(manifest)})
    return api.sanitize_for_serialization(api.deserialize(answer, f"V1{manifest['kind']}"))


def with_amounts_as_texts(manifest: dict[str, Any]) -> dict[str, Any]:
    for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
        limits = container["resources"]["limits"]
        limits |= {name: str(amount) for name, amount in limits.items()}
    return manifest


def test_the_template_is_a_job_of_kubernetes_and_no_key_is_misspelt(tmp_path: Path) -> None:
    filled = kubernetes_job(PROFILE / "job.yaml", script(tmp_path, resources={**JOB["resources"], "gpu": 1}))
    assert with_amounts_as_texts(filled) == as_the_api_has_it(filled)


def test_the_workflow_runs_with_the_image_and_the_volume_of_its_jobs(tmp_path: Path) -> None:
    parts = list(yaml.safe_load_all((PROFILE / "workflow.yaml").read_text()))
    for part in parts:
        assert with_amounts_as_texts(part) == as_the_api_has_it(part)
    own = parts[-1]["spec"]["template"]["spec"]
    pod = kubernetes_job(PROFILE / "job.yaml", script(tmp_path))["spec"]["template"]["spec"]
    assert own["containers"][0]["image"] == pod["containers"][0]["image"]
    assert own["containers"][0]["volumeMounts"] == pod["containers"][0]["volumeMounts"][:1]
    assert own["volumes"] == pod["volumes"][:1]


def test_names_are_the_same_for_the_same_files_alone(tmp_path: Path) -> None:
    def name(**changed: Any) -> str:
        found: str = kubernetes_job(template, script(tmp_path, **changed), folder=tmp_path)["metadata"]["name"]
        return found

    template = tmp_path / "job.yaml"
    template.write_text((PROFILE / "job.yaml").read_text())
    first = name()
    assert name(threads=5, resources={"mem_mb": 9000, "runtime": 120}) == first
    assert name(output=["results/other/base/provenance.json"]) != first
    # As that of another volume, on which the same path is another folder.
    template.write_text(template.read_text().replace("claimName: sdpo-bench", "claimName: other"))
    assert name() != first


def test_an_unknown_placeholder_is_named(tmp_path: Path) -> None:
    template = tmp_path / "job.yaml"
    template.write_text(yaml.safe_dump({"spec": {"x": "{gpu} of them"}}))
    with pytest.raises(InputError, match=r"job.yaml: '\{gpu\} of them': expected in braces one of script, folder"):
        kubernetes_job(template, script(tmp_path))
    with pytest.raises(InputError, match=r"expected the script of a job"):
        kubernetes_job(template, template)


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 1 || exit 3", 1)])
def test_the_first_process_of_a_pod_ends_as_its_job_does(tmp_path: Path, command: str, code: int) -> None:
    path = tmp_path / "job.sh"
    path.write_text((PROFILE / "jobscript.sh").read_text().format(properties="{}", exec_job=command))
    assert subprocess.run(["bash", path]).returncode == code


def test_the_first_process_of_a_pod_passes_sigterm_on_and_waits(tmp_path: Path) -> None:
    code = "import signal, time; end = 'time.sleep(0.3); print(1); raise SystemExit';"
    code += " signal.signal(signal.SIGTERM, lambda *_: exec(end));"
    job = f'python3 -S -c "{code} print(0, flush=True); time.sleep(60)" && exit 0 || exit 1'
    path = tmp_path / "job.sh"
    path.write_text((PROFILE / "jobscript.sh").read_text().format(properties="{}", exec_job=job))
    process = subprocess.Popen(["bash", path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "0\n"
    process.terminate()
    assert process.communicate(timeout=30)[0] == "1\n"
    assert process.returncode == 0
