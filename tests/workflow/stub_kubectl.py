"""Stands for ``kubectl``: keeps jobs as files of the folder ``PODS``, and runs the command of each on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PODS = Path(os.environ["PODS"])


def run(name: str) -> None:
    """Be the pod of a job: its command, then what became of it."""
    (container,) = json.loads((PODS / f"{name}.json").read_text())["spec"]["template"]["spec"]["containers"]
    with (PODS / f"{name}.log").open("w") as log:
        code = subprocess.call(container["command"], cwd=container["workingDir"], stdout=log, stderr=log)
    (PODS / f"{name}.condition").write_text("Failed" if code else "Complete")


def main() -> None:
    match sys.argv[1:]:
        case ["create", *_]:
            job = json.load(sys.stdin)
            name = job["metadata"]["name"]
            with (PODS / f"{name}.json").open("x") as file:
                json.dump(job, file)
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.Popen([sys.executable, "-S", __file__, "run", name], start_new_session=True, **quiet)
            print(name, end="")
        case ["delete", "--filename=-", *_]:
            name = json.load(sys.stdin)["metadata"]["name"]
            for file in PODS.glob(f"{name}.*"):
                file.unlink()
        case ["get", "job", name, *_] if (PODS / f"{name}.json").exists():
            condition = PODS / f"{name}.condition"
            print(name, condition.read_text() if condition.exists() else "", end="")
        case ["run", name]:
            run(name)


main()
