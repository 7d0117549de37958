"""Fixtures for tests of every kind: tiny bases shaped like the real ones."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from artifacts import plugins
from pipeline.job_environment import QUIET

Once = Callable[[str, Callable[[Path], None]], Path]
SLOW = {"warm", "weights", "workflow", "finished_workflow", "planned_jobs"}
SLOW |= {"base_path", "tiny_sd15", "tiny_sdxl", "pair_cache", "tiny_benchmark"}
"""Fixtures that start commands, are a base, which trains, encodes or draws, or have a whole report written."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a slow fixture, however indirectly, before ``-m`` chooses."""
    for item in items:
        if isinstance(item, pytest.Function) and not SLOW.isdisjoint(item.fixturenames):
            item.add_marker("slow")


def _beside(name: str) -> ModuleType:
    # Tests are imported by path, not as packages.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """``once(name, make)``: a folder that the first of the parallel test processes fills that needs it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = shared / f"shared-{name}"
        with (shared / f"shared-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (folder / "made").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def warm(once: Once) -> Path:
    """A folder with ``python``, ``sdpo`` and ``evals``, which need not import what is large (``warm_python.py``)."""

    def start(folder: Path) -> None:
        of_all_tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        with pytest.MonkeyPatch.context() as patch:
            # Read when the libraries are imported.
            for name, value in QUIET.items():
                patch.setenv(name, value)
            _beside("warm_python").start(str(folder / "bin"), of_all_tests)

    return once("warm", start) / "bin"


@pytest.fixture(scope="session")
def tiny_pipelines() -> ModuleType:
    """The module ``tests/tiny_pipelines.py``: ``save_sd15`` and ``save_sdxl``, with options."""
    return _beside("tiny_pipelines")


@pytest.fixture(scope="session")
def tiny_sd15(tiny_pipelines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base shaped like Stable Diffusion 1.5; not to be changed."""
    folder: Path = tiny_pipelines.save_sd15(tmp_path_factory.mktemp("bases") / "sd15")
    return folder


@pytest.fixture(scope="session")
def tiny_sdxl(tiny_pipelines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base shaped like Stable Diffusion XL; not to be changed."""
    folder: Path = tiny_pipelines.save_sdxl(tmp_path_factory.mktemp("bases") / "sdxl")
    return folder


@pytest.fixture(scope="session")
def tiny_flows(tiny_pipelines: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base of each family of rectified flow; not to be changed."""
    return {
        name: save(tmp_path_factory.mktemp("bases") / name)
        for name, save in (
            ("sd3", tiny_pipelines.save_sd3),
            ("flux", tiny_pipelines.save_flux),
            ("ovis_image", tiny_pipelines.save_ovis_image),
            ("ovis_u1", tiny_pipelines.save_ovis_u1),
        )
    }


PlugIn = Callable[..., str]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlugIn]:
    """Install a package with one entry point: ``plug_in(group, name, code)`` gives the name of its module.

    ``value`` is what the entry point says instead of the module; without ``code`` there is no module.
    """
    folder = tmp_path / "plug-ins"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made: list[str] = []

    def install(group: str, name: str, code: str | None = None, *, value: str | None = None) -> str:
        module = f"plug_in_{len(made)}_{name}"
        made.append(module)
        if code is not None:
            (folder / f"{module}.py").write_text(code, encoding="utf-8")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        package = f"their-{name.replace('_', '-')}"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or module}\n", encoding="utf-8")
        importlib.invalidate_caches()
        plugins._entry_points.cache_clear()
        return module

    yield install
    plugins._entry_points.cache_clear()
    for module in made:
        sys.modules.pop(module, None)
