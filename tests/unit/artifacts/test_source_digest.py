from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.plugins import Registry, loaded
from artifacts.source_digest import source_digest

LOSS = '''"""A loss."""
from math import log
from their_losses import helping
from . import constants as c


class Parameters:
    """Its parameters."""

    beta = 2.0


def loss(x):
    """What is lost."""
    # A comment.
    return -log(x) * helping.scale() * c.ONE
'''
FILES = {
    "__init__.py": "",
    "loss.py": LOSS,
    "helping.py": "from their_losses.deep.down import two\n\ndef scale():\n    return two()\n",
    "constants.py": "ONE = 1\n",
    "deep/__init__.py": "DEPTH = 1\n",
    "deep/down.py": "def two():\n    import their_losses.deep.late\n    return 2\n",
    "deep/late.py": "LATE = True\n",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "their_losses"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def digest() -> str:
    found = source_digest("their_losses.loss")
    assert found is not None
    return found


NOTHING = {
    "comment": ("# A comment.", "# Another comment, longer."),
    "docstring of the module": ('"""A loss."""', '"""Nothing."""'),
    "docstring of a class": ('    """Its parameters."""\n\n', ""),
    "docstring of a function": ("What is lost", "What is won"),
    "layout": ("return -log(x) * helping.scale()", "return (\n        -log( x )\n        * helping.scale()\n    )"),
    "line ends": ("\n", "\r\n"),
    "quotes of a text": ("beta = 2.0", "beta = 2.0\n"),
}
SOMETHING = {
    "a sign": ("-log(x)", "log(x)"),
    "a constant": ("2.0", "2.5"),
    "a name": ("beta", "gamma"),
    "an import": ("from math import log", "from cmath import log"),
    "a text that is no docstring": ("return -log", "assert 'x'\n    return -log"),
}


@pytest.mark.parametrize("change", NOTHING)
def test_what_changes_nothing_is_not_seen(package: Path, change: str) -> None:
    before = digest()
    old, new = NOTHING[change]
    (package / "loss.py").write_bytes(LOSS.replace(old, new).encode())
    assert digest() == before


@pytest.mark.parametrize("change", SOMETHING)
def test_what_may_change_a_result_is_seen(package: Path, change: str) -> None:
    before = digest()
    (package / "loss.py").write_text(LOSS.replace(*SOMETHING[change]))
    assert digest() != before


@pytest.mark.parametrize("file", [name for name in FILES if name not in ("loss.py", "unrelated.py")])
def test_what_is_imported_counts_however_indirectly(package: Path, file: str) -> None:
    before = digest()
    (package / file).write_text(FILES[file] + "MORE = 1\n")
    assert digest() != before


def test_what_is_not_imported_does_not_count(package: Path) -> None:
    before = digest()
    (package / "unrelated.py").write_text("X = 2\n")
    (package / "new.py").write_text("X = 2\n")
    assert digest() == before


def test_a_module_made_a_package_of_the_same_content_is_seen_to_import_the_same(package: Path) -> None:
    (package / "helping").mkdir()
    (package / "helping.py").rename(package / "helping" / "__init__.py")
    before = digest()
    (package / "deep" / "late.py").write_text("LATE = False\n")
    assert digest() != before


def test_circular_imports_end(package: Path) -> None:
    (package / "constants.py").write_text("from their_losses import loss, helping\nONE = 1\n")
    before = digest()
    (package / "constants.py").write_text("from their_losses import helping, loss\nONE = 2\n")
    assert digest() != before


def test_code_that_cannot_be_parsed_or_read_counts_by_its_bytes(package: Path) -> None:
    (package / "loss.py").write_text("def broken(:\n")
    before = digest()
    (package / "loss.py").write_text("def  broken(:\n")
    assert digest() != before
    (package / "loss.py").write_bytes(b"\x00\xff not text")
    assert digest()


@pytest.mark.parametrize("name", ["their_losses.missing", "no_such_package", "no_such_package.module", "sys"])
def test_what_is_in_no_file_has_no_digest(package: Path, name: str) -> None:
    assert source_digest(name) is None


def test_nothing_is_imported(package: Path) -> None:
    """Planning has to know it, and must not wait for torch."""
    (package / "__init__.py").write_text("raise RuntimeError\n")
    assert digest()
    code = (
        "import sys\nfrom evals.scorers import REGISTRY; from sdpo.bases import REGISTRY as B\n"
        "from sdpo.pairs import REGISTRY as P; from evals.prompts import REGISTRY as S\n"
        "found = [r.source(name) for r in (REGISTRY, B, P, S) for name in r.names()]\n"
        "assert all(found) and len(set(found)) == len(found), found\n"
        "print({'torch', 'transformers', 'diffusers', 'pandas', 'worlds.miniature.scenes'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    written = {
        "own_shapes": {
            "__init__": "A = 1",
            "circle": "from own_shapes import ring, PI\nimport own_curves.arc",
            "ring": "R = 1",
        },
        "own_curves": {"__init__": "", "arc": "X = 1"},
    }
    for package, modules in written.items():
        (tmp_path / package).mkdir()
        for name, text in modules.items():
            (tmp_path / package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return Registry(kind="shape", package="own_shapes", group="test.own_shapes", shared=("own_curves",))


def test_of_a_built_in_member_the_registry_itself_does_not_count(registry: Registry, tmp_path: Path) -> None:
    """It is the same for all members, and has the number of a stage."""
    before = registry.source("circle")
    (tmp_path / "own_shapes" / "__init__.py").write_text("A = 2")
    assert registry.source("circle") == before
    (tmp_path / "own_shapes" / "ring.py").write_text("R = 2")
    assert (after := registry.source("circle")) not in (before, None)
    (tmp_path / "own_curves" / "arc.py").write_text("X = 2")
    assert registry.source("circle") not in (after, before, None)
    assert registry.source("square") is None


def test_origin_of_a_plug_in_names_its_package(registry: Registry, plug_in: Callable[..., str]) -> None:
    module = plug_in("test.own_shapes", "star", "X = 1\n")
    origin = registry.origin("star")
    assert (origin["module"], origin["package"], origin["version"]) == (module, "their-star", "1.0")
    assert origin["sha256"] == source_digest(module)
    assert "shape star" not in loaded()
    registry.load("star")
    assert loaded()["shape star"] == origin
    assert registry.origin("circle")["package"] == "sdpo-bench"


@pytest.mark.parametrize(
    ("code", "file"),
    [
        ("open(Path(__file__).with_name('words.txt'))", "words.txt"),
        ("(Path(__file__).parent / 'lists' / 'words').open()", "lists/words"),
        ("open(Path(__file__).parent / 'lists/words.csv')", "lists/words.csv"),
    ],
)
def test_a_file_beside_a_module_counts_where_the_module_names_it(package: Path, code: str, file: str) -> None:
    (package / "lists").mkdir()
    (package / file).write_text("one\n")
    (package / "lists" / "other.csv").write_text("one\n")
    plain = digest()
    (package / "helping.py").write_text(f"{FILES['helping.py']}\nfrom pathlib import Path\nWORDS = {code}\n")
    named = digest()
    assert named != plain
    (package / "lists" / "other.csv").write_text("two\n")
    (package / "nobody's.txt").write_text("two\n")
    assert digest() == named
    (package / file).write_text("two\n")
    assert digest() != named
    (package / file).write_text("one\n")
    assert digest() == named
