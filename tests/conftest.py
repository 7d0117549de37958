"""Fixtures for tests of every kind: tiny bases shaped like the real ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from artifacts import plugins


def _tiny_pipelines() -> ModuleType:
    # Tests are imported by path, not as packages.
    spec = importlib.util.spec_from_file_location("tiny_pipelines", Path(__file__).with_name("tiny_pipelines.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_pipelines() -> ModuleType:
    """The module ``tests/tiny_pipelines.py``: ``save_sd15`` and ``save_sdxl``, with options."""
    return _tiny_pipelines()


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
