from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import InputError
from artifacts.plugins import Call, Registry, nearest, told

PlugIn = Callable[..., str]
GROUP = "test.shapes"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plug_in: PlugIn) -> Registry:
    """Built-in members ``circle`` and ``square`` of a package made for the test; plug-in ``cross``."""
    package = tmp_path / "test_plugin_shapes"
    package.mkdir()
    for name in ("__init__", "circle", "square", "_private"):
        (package / f"{name}.py").write_text(f"NAME = '{name}'\n")
    monkeypatch.syspath_prepend(tmp_path)
    plug_in(GROUP, "cross", "NAME = 'foreign'\n")
    for name in [n for n in sys.modules if n.startswith("test_plugin_")]:
        monkeypatch.delitem(sys.modules, name)
    return Registry(kind="shape", package="test_plugin_shapes", group=GROUP)


def test_names_are_listed_without_importing_members(registry: Registry) -> None:
    assert registry.names() == ["circle", "cross", "square"]
    assert "test_plugin_shapes.circle" not in sys.modules
    assert "plug_in_0_cross" not in sys.modules


def test_members_are_loaded_from_package_and_entry_point(registry: Registry) -> None:
    assert registry.load("circle").NAME == "circle"
    assert registry.load("cross").NAME == "foreign"


@pytest.mark.parametrize("name", ["circel", "_private"])
def test_unknown_name_lists_what_there_is(registry: Registry, name: str) -> None:
    with pytest.raises(InputError, match=f"unknown shape '{name}': expected one of circle, cross, square") as caught:
        registry.load(name)
    assert ("did you mean 'circle'?" in str(caught.value)) == (name == "circel")


def test_a_name_that_two_define_is_an_error_of_those_who_use_it(registry: Registry, plug_in: PlugIn) -> None:
    plug_in(GROUP, "circle", "")
    plug_in(GROUP, "cross", "")
    with pytest.raises(InputError, match="shape 'circle' is defined by the project and again by package their-circle,"):
        registry.load("circle")
    with pytest.raises(InputError, match=r"entry point plug_in_0_cross and again by package their-cross, entry point"):
        registry.load("cross")
    assert registry.names() == ["circle", "cross", "square"]
    assert registry.load("square").NAME == "square"


def test_registry_of_plugins_alone(registry: Registry) -> None:
    assert Registry(kind="shape", package=None, group=registry.group).names() == ["cross"]


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        (None, None, "cannot be imported: ModuleNotFoundError: No module named 'plug_in_1_star'"),
        ("import no_such_module\n", None, r"No module named 'no_such_module' \(.*plug_in_1_star\.py, line 1\)"),
        ("from os import no_such_name\n", None, r"ImportError: cannot import name 'no_such_name'.* line 1\)"),
        ("X = 1\ndef broken(:\n", None, r"SyntaxError: invalid syntax \(.*plug_in_1_star\.py, line 2\)"),
        ("def f():\n  x = 1\n\ty = 2\n", None, r"TabError: .*line 3\)"),
        ("X = 1\nY = 1 / 0\n", None, r"ZeroDivisionError: division by zero \(.*plug_in_1_star\.py, line 2\)"),
        ("raise SystemExit('no')\n", None, r"SystemExit: no \(.*line 1\)"),
        ("raise KeyError\n", None, r"KeyError \(.*line 1\)"),
        ("assert False, 'two\\nlines'\n", None, r"AssertionError: two lines \("),
        ("", "no module name", "cannot be imported: "),
        ("class Star: ...\n", "plug_in_1_star:Star", "expected the name of a module, which holds NAME, draw"),
        ("", "plug_in_1_star:Moon", "AttributeError: module 'plug_in_1_star' has no attribute 'Moon'"),
        ("", None, "module plug_in_1_star: does not define NAME, draw"),
        ("NAME = 3\ndef draw(size, *, color): ...\n", None, "NAME is 3, expected a str"),
        ("NAME = 'x'\ndraw = 3\n", None, "draw is 3, expected a function"),
        (
            "NAME = 'x'\ndef draw(size): ...\n",
            None,
            r"draw\(size\): got an unexpected keyword argument 'color'; it is called as draw\(size, color=…\)",
        ),
        ("NAME = 'x'\ndef draw(size, *, color, depth): ...\n", None, "missing a required argument: 'depth'"),
        ("NAME = 'x'\ndef draw(*, color): ...\n", None, "too many positional arguments"),
        ("NAME = 'x'\nDASHES = 1\ndef draw(size, color): ...\n", None, r"called as draw\(size, color=…, dash=…\)"),
        ("NAME = 'x'\ndef draw(size, **_): ...\ndef erase(): ...\n", None, "erase.*too many positional arguments"),
    ],
)
def test_a_broken_plug_in_is_one_line_of_those_who_use_it(
    registry: Registry, plug_in: PlugIn, code: str | None, value: str | None, message: str
) -> None:
    plug_in(GROUP, "star", code, value=value)
    strict = Registry(
        kind="shape",
        package=None,
        group=GROUP,
        attributes={"NAME": str},
        calls={"draw": Call(("size",), ("color",), only_if={"dash": "DASHES"})},
        optional_calls={"erase": Call(("size",))},
    )
    assert strict.names() == ["cross", "star"]
    with pytest.raises(InputError, match=message) as caught:
        strict.load("star")
    assert str(caught.value).startswith("shape 'star' of package their-star, entry point ")
    assert "\n" not in str(caught.value)


def test_a_function_of_any_spelling_that_can_be_called_so_is_taken(registry: Registry, plug_in: PlugIn) -> None:
    strict = Registry(kind="shape", package=None, group=GROUP, calls={"draw": Call(("size",), ("color",))})
    for number, code in enumerate(("def draw(s, color): ...", "def draw(*a, **k): ...", "draw = lambda s, color=1: s")):
        plug_in(GROUP, f"fine{number}", code)
        assert callable(strict.load(f"fine{number}").draw)


def test_nearest() -> None:
    assert nearest("diffusion_dp", ["dmpo", "diffusion_dpo"]) == "; did you mean 'diffusion_dpo'?"
    assert nearest("zzz", ["dmpo", "diffusion_dpo"]) == ""
    assert nearest("x", []) == ""


def test_want_of_memory_and_what_is_meant_to_be_read_pass_as_they_are() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch's."""

    for error in (OutOfMemoryError("17 GiB"), MemoryError(), InputError("path is wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, told("shape 'cross': area", None):
            raise error
        assert caught.value is error
    message = r"^shape 'cross': area fails: KeyError: 'side' \(.*test_plugins\.py, line"
    with pytest.raises(InputError, match=message), told("shape 'cross': area", None):
        raise KeyError("side")
