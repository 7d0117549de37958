from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from artifacts import plugins
from artifacts.errors import InputError
from artifacts.plugins import Registry, nearest


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Built-in members ``circle`` and ``square`` of a package made for the test; plug-in ``cross``."""
    package = tmp_path / "test_plugin_shapes"
    package.mkdir()
    for name in ("__init__", "circle", "square", "_private", "interface"):
        (package / f"{name}.py").write_text(f"NAME = '{name}'\n")
    (tmp_path / "test_plugin_foreign.py").write_text("NAME = 'foreign'\n")
    monkeypatch.syspath_prepend(tmp_path)
    group = "test.shapes"
    points = {"cross": EntryPoint("cross", "test_plugin_foreign", group)}
    monkeypatch.setattr(plugins, "_entry_points", lambda asked: points if asked == group else {})
    for name in [n for n in sys.modules if n.startswith("test_plugin_")]:
        monkeypatch.delitem(sys.modules, name)
    return Registry(kind="shape", package="test_plugin_shapes", group=group, not_members=("interface",))


def test_names_are_listed_without_importing_members(registry: Registry) -> None:
    assert registry.names() == ["circle", "cross", "square"]
    assert "test_plugin_shapes.circle" not in sys.modules
    assert "test_plugin_foreign" not in sys.modules


def test_members_are_loaded_from_package_and_entry_point(registry: Registry) -> None:
    assert registry.load("circle").NAME == "circle"
    assert registry.load("cross").NAME == "foreign"


@pytest.mark.parametrize("name", ["circel", "interface", "_private"])
def test_unknown_name_lists_what_there_is(registry: Registry, name: str) -> None:
    with pytest.raises(InputError, match=f"unknown shape '{name}': expected one of circle, cross, square") as caught:
        registry.load(name)
    assert ("did you mean 'circle'?" in str(caught.value)) == (name == "circel")


def test_plugin_may_not_take_a_built_in_name(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    double = {"circle": EntryPoint("circle", "test_plugin_foreign", registry.group)}
    monkeypatch.setattr(plugins, "_entry_points", lambda _: double)
    with pytest.raises(InputError, match="shape 'circle' is defined by the project and again by test_plugin_foreign"):
        registry.load("circle")
    assert registry.names() == ["circle", "square"]


def test_registry_of_plugins_alone(registry: Registry) -> None:
    assert Registry(kind="shape", package=None, group=registry.group).names() == ["cross"]


def test_nearest() -> None:
    assert nearest("diffusion_dp", ["dmpo", "diffusion_dpo"]) == "; did you mean 'diffusion_dpo'?"
    assert nearest("zzz", ["dmpo", "diffusion_dpo"]) == ""
    assert nearest("x", []) == ""
