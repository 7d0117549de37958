"""The documentation: its site builds without a warning, and what its code blocks say to type can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import evals.cli
import pipeline.cli
import sdpo.cli
import worlds.miniature.cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSERS: dict[str, Callable[[], object]] = {
    "sdpo-bench": pipeline.cli.command_line,
    "sdpo": sdpo.cli.command_line,
    "evals": evals.cli.command_line,
    "miniature": worlds.miniature.cli.command_line,
}
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(page, text) of each code block."""
    for page in PAGES:
        for text in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M):
            yield page.name, text


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of each line of the shell that begins with a command of the project."""
    for page, text in blocks("sh"):
        joined = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("\n", " "), text.replace("\\\n", " "))
        for line in joined.splitlines():
            # Of a line that pipes or redirects, the first command; quotes may hold what ends it.
            words = shlex.split(re.split(r"\s[|>&](?=[^'\"]*$)", line)[0], comments=True)
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=.*", word)]
            if words and (Path(words[0]).name in PARSERS or words[0] in ("make", "snakemake")):
                yield page, [Path(words[0]).name, *words[1:]]


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: " ".join(value)[:80])
def test_a_command_of_the_pages_is_one(page: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = words
    if name == "make":
        assert all(word in TARGETS or "=" in word for word in arguments)
    elif name == "snakemake":
        for file in re.findall(r"config/\S+\.yaml", " ".join(arguments)):
            assert (ROOT / file).is_file() or Path(file).stem in ("mine", "x")
    else:
        try:
            PARSERS[name]().parse_args(arguments)  # type: ignore[attr-defined]
        except SystemExit as left:
            pytest.fail(f"{page}: {' '.join(words)}: {capsys.readouterr().err}") if left.code else None


def test_there_are_commands_of_every_kind() -> None:
    assert {words[0] for _, words in commands()} >= {"make", "snakemake", "sdpo-bench", "evals", "sdpo"}


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_yaml_of_the_pages_can_be_read(page: str, text: str) -> None:
    assert yaml.safe_load(text) is not None, page


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    from sphinx.cmd.build import main

    assert main(["-c", str(ROOT / "docs"), "-W", "--keep-going", "-q", str(ROOT), str(tmp_path)]) == 0
    api = (tmp_path / "docs/api.html").read_text(encoding="utf-8")
    # What the functions say of themselves is there, as headings and text.
    assert "slack μ in [0, 1]" in api and "sdpo.objectives.create" in api
    assert "results/" in (tmp_path / "docs/commands.html").read_text(encoding="utf-8")
