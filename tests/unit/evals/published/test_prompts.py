"""The published prompt sets: made-up files of the published layouts and sizes, served on the loopback."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals import cli
from evals import prompts as prompt_sets
from evals.commands import doctor
from evals.images.matching import match
from evals.prompts import Prompt
from evals.prompts.prompt_file import read_prompt_file
from evals.prompts.sources.drawbench import CATEGORIES
from evals.prompts.sources.geneval import TAGS
from evals.published.download import download
from evals.published.prompt_files import first_of_each
from evals.published.prompts import PROMPTS

SPECIAL = "“curly”，\ttab  and two spaces, trailing "


def official(texts: list[str]) -> bytes:
    """The layout of the official Diffusion-SDPO files."""
    rows = [{"prompt": text, "gen_image_path": "", "raw_image_path": "", "metadata": {}} for text in texts]
    return json.dumps(rows, indent=2).encode()


def papv2() -> bytes:
    return official([SPECIAL, *(f"picture {i}" for i in range(1, 487))])


def hpdv2() -> bytes:
    # As in the published file, a text comes twice in a style, and once in another.
    texts = [f"scene {i}" for i in range(3200)]
    texts[7] = texts[900] = texts[3]
    return official(texts)


def partiprompts() -> tuple[bytes, bytes]:
    """Prompts in one order, the table in another; one prompt is quoted in the table and not in the list."""
    subjects, challenges = [f"Subject {i}" for i in range(12)], [f"Challenge {i}" for i in range(11)]
    texts = ["W O W on a wall", 'a sign that says "no"', "ends with a space ", *(f"thing {i}" for i in range(1629))]
    in_table = ['"W O W" on a wall', *texts[1:]]
    lines = [f"{text}\t{subjects[i % 12]}\t{challenges[i % 11]}\t" for i, text in enumerate(in_table)]
    table = "\n".join(["Prompt\tCategory\tChallenge\tNote", *reversed(lines), ""])
    return official(texts), table.encode()


def drawbench(folder: Path) -> bytes:
    frame = pd.DataFrame({"prompts": [f"drawing {i}" for i in range(200)], "category": [i % 11 for i in range(200)]})
    frame.to_parquet(folder / "published.parquet", index=False)
    return (folder / "published.parquet").read_bytes()


def geneval() -> bytes:
    """Tags in the order of the published file; a line has more than is read here."""
    rows = [
        {"tag": tag, "include": [{"class": "cup", "count": 1}], "prompt": f"a photo of {tag} {i}"}
        for tag, count in TAGS.items()
        for i in range(count)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@pytest.fixture
def published(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Made-up files in the place of the published ones, with digests of their own."""
    monkeypatch.setattr("evals.published.download.download", functools.partial(download, wait=0))
    contents: dict[str, tuple[bytes, ...]] = {
        "drawbench": (drawbench(tmp_path),),
        "geneval": (geneval(),),
        "hpdv2": (hpdv2(),),
        "papv2": (papv2(),),
        "partiprompts": partiprompts(),
    }
    for source, files in PROMPTS.items():
        made_up = []
        for file, content in zip(files, contents[source], strict=True):
            on_hub = not file.name.startswith("http")
            path = file.url().removeprefix(server.url) if on_hub else f"/raw/{file.target}"
            server.files[path] = content
            name = file.name if on_hub else f"{server.url}{path}"
            made_up.append(replace(file, name=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
        monkeypatch.setitem(PROMPTS, source, tuple(made_up))
    return server


def read(source: str, **options: Any) -> list[Prompt]:
    prompts: list[Prompt] = prompt_sets.REGISTRY.load(source).read(options)
    return prompts


def categories(prompts: list[Prompt]) -> dict[str, int]:
    return dict(Counter(prompt.category for prompt in prompts))


def test_every_published_file_is_pinned() -> None:
    assert set(PROMPTS) == {"drawbench", "geneval", "hpdv2", "papv2", "partiprompts"} <= set(prompt_sets.names())
    for source, files in PROMPTS.items():
        assert len({file.target for file in files}) == len(files)
        for file in files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or ""), source
            # Of GenEval's commit not all digits are known.
            assert re.search("/[0-9a-f]{40}/", file.url()) or source == "geneval", source


def test_counts_and_categories(published: Any, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    pap = read("papv2", cache=cache)
    assert len(pap) == 487
    assert pap[0] == Prompt(SPECIAL, "")
    hpd = read("hpdv2", cache=cache)
    assert categories(hpd) == {"anime": 800, "concept-art": 800, "paintings": 800, "photo": 800}
    assert [hpd[i].category for i in (799, 800, 1599, 1600, 2400)] == [
        "anime",
        "concept-art",
        "concept-art",
        "paintings",
        "photo",
    ]
    assert hpd[7].text == hpd[3].text
    parti = read("partiprompts", cache=cache)
    assert categories(parti) == {f"Subject {i}": 136 for i in range(12)}
    assert parti[:2] == [Prompt("W O W on a wall", "Subject 0"), Prompt('a sign that says "no"', "Subject 1")]
    challenges = read("partiprompts", cache=cache, breakdown="challenge")
    assert (challenges[12].category, len(categories(challenges))) == ("Challenge 1", 11)
    draw = read("drawbench", cache=cache)
    assert len(draw) == 200
    assert [prompt.category for prompt in draw[:12]] == [*CATEGORIES, "Colors"]
    gen = read("geneval", cache=cache)
    assert len(gen) == 553 and categories(gen) == TAGS
    assert gen[80] == Prompt("a photo of two_object 0", "two_object")
    # One request a file, whatever was read from it.
    assert sorted(published.asked) == sorted(published.files)


def test_a_set_of_a_benchmark(published: Any, tmp_path: Path) -> None:
    out = tmp_path / "hpd.parquet"
    options = {"cache": str(tmp_path / "cache")}
    prompt_sets.write({"prompt_set": "hpd", "source": "hpdv2", "limit": 900, "options": options, "out": str(out)})
    table = read_table(out, "prompts")
    assert len(table) == 900
    assert table["prompt_id"].is_unique
    # Equal texts are prompts of their own.
    assert table.loc[table["prompt"] == "scene 3", "prompt_id"].tolist() == ["hpd-00003", "hpd-00007"]
    assert categories([Prompt("", c) for c in table["category"]]) == {"anime": 800, "concept-art": 100}


def test_some_of_each_category(published: Any, tmp_path: Path) -> None:
    chosen = read("hpdv2", cache=str(tmp_path), per_category=2)
    assert [prompt.text for prompt in chosen] == [f"scene {800 * style + i}" for style in range(4) for i in range(2)]
    assert first_of_each([Prompt("a", "x"), Prompt("b", "y"), Prompt("c", "x")], 1) == [
        Prompt("a", "x"),
        Prompt("b", "y"),
    ]


def test_a_cut_download_goes_on_and_leaves_nothing_else(published: Any, tmp_path: Path) -> None:
    path = tmp_path / "papv2" / "papv2.json"
    published.cuts = [1000]
    assert len(read("papv2", cache=str(tmp_path))) == 487
    assert published.asked == ["/raw/papv2.json"] * 2
    assert path.read_bytes() == published.files["/raw/papv2.json"]
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "papv2.json"]


def test_sets_that_want_one_file_at_the_same_time_wait(published: Any, tmp_path: Path) -> None:
    published.delay = 0.2
    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(lambda _: len(read("papv2", cache=str(tmp_path))), range(3)))
    assert counts == [487] * 3
    assert published.asked == ["/raw/papv2.json"]


def test_a_changed_file_is_refused_and_not_kept(published: Any, tmp_path: Path) -> None:
    published.files["/raw/papv2.json"] = published.files["/raw/papv2.json"].replace(b'picture 5"', b'picture X"')
    with pytest.raises(InputError, match=r"/raw/papv2\.json: sha256 is \w{64}, expected \w{64}; the file was removed"):
        read("papv2", cache=str(tmp_path))
    assert [p.name for p in (tmp_path / "papv2").iterdir()] == [".lock"]


def test_a_file_changed_in_the_cache_is_noticed(published: Any, tmp_path: Path) -> None:
    read("papv2", cache=str(tmp_path))
    (tmp_path / "papv2" / "papv2.json").write_text("[]")
    with pytest.raises(InputError, match=r"papv2\.json: sha256 is .*; delete it to have it fetched again"):
        read("papv2", cache=str(tmp_path))


def test_without_network_it_is_said_what_to_put_where(published: Any, tmp_path: Path) -> None:
    target = tmp_path / "partiprompts"
    with pytest.raises(InputError, match=r"partiprompts\.json: missing, and offline; put http://.*\.json there"):
        read("partiprompts", cache=str(tmp_path), offline=True)
    assert not target.exists()
    target.mkdir()
    for name in ("partiprompts.json", "PartiPrompts.tsv"):
        (target / name).write_bytes(published.files[f"/raw/{name}"])
    assert len(read("partiprompts", cache=str(tmp_path), offline=True)) == 1632
    assert published.asked == []
    del published.files["/raw/papv2.json"]
    with pytest.raises(InputError, match=r"answers 404 .*; or put the file there by hand: .*papv2/papv2\.json$"):
        read("papv2", cache=str(tmp_path))


def test_a_local_copy_is_held_to_the_digest(published: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(published.files["/raw/papv2.json"])
    assert len(read("papv2", path=str(path))) == 487
    path.write_bytes(official(["a", "b"]))
    with pytest.raises(InputError, match=r"mine\.json: sha256 is \w{64}, expected \w{64}; give the published file, or"):
        read("papv2", path=str(path))
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read("papv2", path=str(path), sha256=own) == [Prompt("a"), Prompt("b")]
    assert published.asked == []
    with pytest.raises(InputError, match=r"mine\.json: has 2 prompts, expected 3200: styles go by position"):
        read("hpdv2", path=str(path), sha256=own)


def test_parti_prompts_that_the_table_lacks(published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("Prompt\tCategory\tChallenge\r\nthing 1\tAnimals\tBasic\r\n\r\n", encoding="utf-8")
    own = {"categories_path": str(table), "categories_sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    prompts = read("partiprompts", cache=str(tmp_path), **own)
    assert [p for p in prompts if p.category] == [Prompt("thing 1", "Animals")]
    assert read("partiprompts", cache=str(tmp_path), breakdown="challenge", **own)[4].category == "Basic"
    assert f"1631 of 1632 prompts have no category: they do not stand in {table}" in capsys.readouterr().out
    for content, message in (
        ("Prompt\tCategory\tChallenge\nelse\tA\tB\n", "no prompt of .* stands in .*t.tsv; give files that fit"),
        ("text,category\n", r"t\.tsv: no columns 'Prompt' and 'Category' \(found text,category\)"),
    ):
        table.write_text(content)
        own["categories_sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()
        with pytest.raises(InputError, match=message):
            read("partiprompts", cache=str(tmp_path), **own)


def test_geneval_is_whole(published: Any, tmp_path: Path) -> None:
    assert categories(read("geneval", cache=str(tmp_path), per_category=5)) == dict.fromkeys(TAGS, 5)
    path = tmp_path / "mine.jsonl"
    for content, message in (
        (
            geneval().replace(b"a photo of counting 7", b""),
            "line 187: prompt is '' and tag 'counting', expected a text",
        ),
        (geneval().replace(b'"colors"', b'"colours"', 1), "line 260: .* tag 'colours', expected a text and one of "),
        (
            geneval()[:-1].rpartition(b"\n")[0],
            "has 552 prompts, 99 of tag 'color_attr', expected 553 and 100; give the",
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read("geneval", path=str(path), sha256=hashlib.sha256(content).hexdigest())


def dpg_folder(folder: Path, count: int = 1065) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"item{number}.txt").write_text(f"a long prompt,\nnumber {number}\n", encoding="utf-8")
    return folder


def test_dpg_bench_from_its_folder_and_from_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = dpg_folder(tmp_path / "prompts")
    found = read("dpg_bench", path=str(folder))
    # By the numbers in the names, not by their digits.
    assert [prompt.item for prompt in found[:12]] == [f"item{number}" for number in range(12)]
    assert found[10] == Prompt("a long prompt, number 10", "", "item10")
    table = tmp_path / "dpg_bench.csv"
    rows = [(f"item{n}", f"a long prompt, number {n}", question) for n in reversed(range(1065)) for question in (1, 2)]
    pd.DataFrame(rows, columns=["item_id", "text", "proposition_id"]).to_csv(table, index=False)
    assert read("dpg_bench", path=str(table)) == found
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    assert f"{table}: sha256 {digest}" in capsys.readouterr().out
    assert len(read("dpg_bench", path=str(table), sha256=digest)) == 1065
    out = tmp_path / "set.parquet"
    options = {"path": str(folder)}
    prompt_sets.write({"prompt_set": "dpg", "source": "dpg_bench", "limit": 3, "options": options, "out": str(out)})
    assert read_table(out, "prompts")["item"].tolist() == ["item0", "item1", "item2"]


def test_dpg_bench_is_whole_and_a_file_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"path is missing: expected the folder dpg_bench/prompts, or dpg_bench\.csv"):
        read("dpg_bench")
    folder = dpg_folder(tmp_path / "prompts", 1064)
    with pytest.raises(InputError, match="prompts: has 1064 prompts, expected 1065; give the whole set"):
        read("dpg_bench", path=str(folder))
    with pytest.raises(InputError, match=r"prompts: sha256 is \w{64}, expected 0{64}"):
        read("dpg_bench", path=str(folder), sha256="0" * 64)
    table = tmp_path / "t.csv"
    for content, message in (
        ("item_id,text\na,one\na,two\n", "row 2: 'a' has another text than in a row before"),
        ("item,text\na,one\n", r"no column 'item_id' \(found item, text\)"),
        ("item_id,text\na,\n", "row 1: item_id is 'a' and text '', expected both"),
    ):
        table.write_text(content)
        with pytest.raises(InputError, match=message):
            read("dpg_bench", path=str(table))


def test_drawbench_from_the_sheet(tmp_path: Path) -> None:
    def sheet(text: str) -> list[Prompt]:
        path = tmp_path / "sheet.csv"
        path.write_text(text, encoding="utf-8")
        return read("drawbench", path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    assert sheet('"Prompts","Category"\n"a ""STOP"" sign, red","Text"\nDog,Gary Marcus et al. \n') == [
        Prompt('a "STOP" sign, red', "Text"),
        Prompt("Dog", "Gary Marcus et al."),
    ]
    with pytest.raises(InputError, match=r"sheet\.csv: row 1: category is 'Txt', expected one of Colors, "):
        sheet("Prompts,Category\na,Txt\n")
    with pytest.raises(InputError, match=r"row 1: the prompt is '', expected text"):
        sheet("Prompts,Category\n,Text\n")
    with pytest.raises(InputError, match=r"no columns 'prompts' and 'category' \(found prompt, category\)"):
        sheet("Prompt,Category\na,Text\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", r"not JSON \(line 1: Expecting value\); correct the file"),
        (b'{"prompt": "a"}', "expected a list of objects with 'prompt'"),
        (b'["a"]', "expected a list of objects with 'prompt'"),
        (b'[{"prompt": "a"}, {"prompt": " "}]', "entry 2: the prompt is ' ', expected text"),
        (b'[{"prompt": null}]', "entry 1: the prompt is None, expected text"),
        (b"\xff", r"not UTF-8 text \(.* at byte 0\); give a UTF-8 text file"),
    ],
)
def test_files_of_another_shape(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"prompt source 'papv2': .*p\.json: {message}"):
        read("papv2", path=str(path), sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("papv2", {"per_category": 3}, "unknown option 'per_category': expected one of path, sha256, cache, offline$"),
        ("papv2", {"pth": "x"}, "did you mean 'path'"),
        ("papv2", {"path": 3}, "path is 3, expected the path of a file"),
        ("papv2", {"path": "absent.json"}, "absent.json: No such file or directory; give a readable file"),
        ("papv2", {"path": "x", "sha256": "abc"}, "sha256 is 'abc', expected 64 hexadecimal digits"),
        ("papv2", {"sha256": "0" * 64}, "sha256 without path; what is fetched has its own digest"),
        ("papv2", {"offline": "yes"}, "offline is 'yes', expected true or false"),
        ("papv2", {"cache": None}, "cache is None, expected the path of a folder"),
        ("hpdv2", {"per_category": 0}, "per_category is 0, expected a number of at least 1"),
        ("partiprompts", {"breakdown": "style"}, "breakdown is 'style', expected one of category, challenge"),
        ("partiprompts", {"categories_sha256": "0" * 64}, "categories_sha256 without categories_path"),
    ],
)
def test_bad_options(source: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"prompt source '{source}': .*{message}"):
        read(source, **options)


def test_fetch_writes_sets_that_evals_score_reads(
    published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    assert cli.main(["prompts", "fetch", "all", "--to", str(to)]) == 0
    assert {p.name: len(read_table(p, "prompts")) for p in to.glob("*.parquet")} == {
        "drawbench.parquet": 200,
        "geneval.parquet": 553,
        "hpdv2.parquet": 3200,
        "papv2.parquet": 487,
        "partiprompts.parquet": 1632,
    }
    prompts = read_prompt_file(to / "drawbench.parquet")
    (tmp_path / "images").mkdir()
    for i in range(200):
        Image.new("RGB", (1, 1)).save(tmp_path / "images" / f"{i}.png")
    matched = match(tmp_path / "images", prompts, "drawbench.parquet").images
    assert (matched[10].file, matched[10].prompt) == ("10.png", "drawing 10")
    # Again, without network.
    published.asked.clear()
    assert cli.main(["prompts", "fetch", "all", "--to", str(to), "--offline"]) == 0
    assert published.asked == []
    assert cli.main(["prompts", "fetch", "papv", "--to", str(to)]) == 2
    assert "no published prompt set 'papv': expected one of drawbench, geneval" in capsys.readouterr().err


def test_prompts_wants_a_spec_or_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prompts"]) == 2
    assert "evals prompts: --spec is missing" in capsys.readouterr().err
    assert cli.main(["prompts", "--spec", "{}", "fetch", "papv2", "--to", str(tmp_path)]) == 2
    assert "--spec describes the whole job; leave fetch out" in capsys.readouterr().err


def test_doctor_says_which_sets_are_here(published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    read("papv2", cache=str(cache))
    config = tmp_path / "c.yaml"
    block = "  {0}: {{source: {0}, options: {{cache: {1}}}}}\n"
    config.write_text(
        "scorers: {oracle: {}}\nprompt_sets:\n" + block.format("papv2", cache) + block.format("partiprompts", cache)
    )
    assert doctor.doctor(config, tmp_path) == 1
    out = capsys.readouterr().out
    assert f"ok       prompt set papv2: {cache}/papv2/papv2.json" in out
    assert f"missing  prompt set partiprompts: {cache}/partiprompts/PartiPrompts.tsv" in out
    assert f"not fetched yet; evals prompts fetch partiprompts --to {cache}" in out
