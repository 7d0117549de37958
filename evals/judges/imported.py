"""``evals import``: answers of a judge become score files, of a benchmark's model or of a folder of images.

In a benchmark they lie where a scorer's do, ``scores/<judge>/<model>/<set>.parquet``, with ``<set>.import.json`` beside
them: the result file, its digest, the judge and its protocol. ``scores/<judge>/judge.json`` is what all of them share.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, write_json
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from artifacts.json_files import read_object
from artifacts.validation import NAME_PATTERN
from evals.images.folder import read_manifest
from evals.images.several import place_of
from evals.judges.answers import JudgedImage, scores_of
from evals.scorers import names

if TYPE_CHECKING:
    import pandas as pd

    from evals.images.matching import Matching
    from evals.judges.result_files import Results

JUDGE = "judge.json"
VERSION = 1


@dataclass(frozen=True)
class Judge:
    """Who judged, and how: scores of one judge are on one scale only where all of this is the same.

    Attributes:
        name: in the tables.
        protocol: version, weights and settings of the judge, as whoever ran it says.
        format: of its result files (:data:`evals.judges.result_files.FORMATS`).
        column: of the scores in them.
        lower_is_better: whether low scores are good.
        judges: whether scores say how good an image is; others describe it.
    """

    name: str
    protocol: str
    format: str
    column: str
    lower_is_better: bool = False
    judges: bool = True

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.name):
            raise InputError(f"--judge {self.name}: expected small letters, digits, '_', '.', '+' and '-'")
        if self.name in names():
            raise InputError(
                f"--judge {self.name}: is a scorer of this project, whose scores are not imported; give it another name"
            )

    @property
    def fingerprint(self) -> str:
        """What tells its scores from others."""
        return json_sha256({"imported": asdict(self), "version": VERSION})


def import_for_model(judge: Judge, results: Results, root: str | Path, model: str, prompt_set: str) -> Path:
    """Write the scores of a benchmark's model on a prompt set.

    Args:
        results: of the judge.
        root: ``results/<benchmark>``.

    Returns:
        The score file.

    Raises:
        InputError: there are no such images, an image has changed, the answers do not fit them, or the judge has scores
            here by another protocol.
    """
    import pandas as pd

    root = Path(root)
    folder = layout.images(root, model, prompt_set)
    prompts, manifest = read_table(layout.prompts(root, prompt_set), "prompts"), read_manifest(folder)
    rows = manifest.merge(prompts.reset_index(names="row"), on="prompt_id", how="left", validate="many_to_one")
    if rows["row"].isna().any():
        raise InputError(f"{folder}: has images of other prompts than {layout.prompts(root, prompt_set)}")
    for file, digest in zip(rows["file"], rows["sha256"], strict=True):
        checked_image(folder / file, digest)
    columns = (rows[name].tolist() for name in ("file", "prompt", "row", "image", "item"))
    images = [JudgedImage(*row) for row in zip(*columns, strict=True)]
    scores = scores_of(images, results, folder)
    table = pd.DataFrame({"prompt_id": rows["prompt_id"], "image": rows["image"], "score": scores, "truncated": False})
    table = table.assign(image_sha256=rows["sha256"], fingerprint=judge.fingerprint, protocol=judge.protocol)
    out = layout.scores(root, judge.name, model, prompt_set)
    check_shared(root, judge)
    write_json(out.with_suffix(".import.json"), {**record(judge), **_origin(results)})
    write_table(out, table, "scores")
    return out


def import_for_folder(
    judge: Judge, results: Results, folder: str | Path, matching: Matching
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Scores of a folder's images, contract ``folder_scores``, and the record of where they are from.

    Args:
        matching: the images with their prompts, those of a prompt one after another.
        results: of the judge.

    Raises:
        InputError: the answers do not fit the images.
    """
    import pandas as pd

    folder = Path(folder)
    images: list[JudgedImage] = []
    row, seen = -1, ""
    for found in matching.images:
        again = found.prompt == seen and row >= 0
        row, seen = (row if again else row + 1), found.prompt
        # A number in the names is the prompt's, in whatever order prompts are listed.
        item = "" if (place := place_of(found.file)) is None else str(place[0])
        images.append(JudgedImage(found.file, found.prompt, row, images[-1].image + 1 if again else 0, item))
    scores = scores_of(images, results, folder)
    table = pd.DataFrame(
        {
            "file": [image.file for image in images],
            "prompt": [image.prompt for image in images],
            "scorer": judge.name,
            "protocol": judge.protocol,
            "score": scores,
            "truncated": False,
            "image_sha256": [file_sha256(folder / image.file) for image in images],
            "fingerprint": judge.fingerprint,
            "problem": None,
            "lower_is_better": judge.lower_is_better,
            "judges": True,
        }
    )
    return table, {**record(judge), **_origin(results)}


def checked_image(path: Path, sha256: str) -> bytes:
    """Content of an image of a benchmark.

    Raises:
        InputError: it is gone, or not the one that the manifest lists.
    """
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path}: is not the image that the manifest lists; draw it and judge it again")
    return content


def check_shared(root: Path, judge: Judge) -> None:
    """Note what all scores of a judge in a benchmark share, and hold this one to it.

    Raises:
        InputError: it has scores here by another protocol.
    """
    shared, ours = root / "scores" / judge.name / JUDGE, asdict(judge)
    if shared.is_file():
        for key, known in asdict(judge_of(shared)).items():
            if known != ours[key]:
                raise InputError(
                    f"{shared}: '{judge.name}' has scores of {key} '{known}', not '{ours[key]}'; give the same, or "
                    "another --judge"
                )
    write_json(shared, ours)


def judges_of(root: str | Path) -> Sequence[Judge]:
    """Judges that have scores in a benchmark, by name."""
    return [judge_of(path) for path in sorted(Path(root).glob(f"scores/*/{JUDGE}"))]


def judge_of(path: Path) -> Judge:
    """What a ``judge.json`` says.

    Raises:
        InputError: it is malformed.
    """
    remedy = "delete the folder and import again"
    content = read_object(path, missing=remedy, damaged=remedy)
    try:
        return Judge(**content)
    except TypeError as error:
        raise InputError(f"{path}: is not what `evals import` writes ({error}); {remedy}") from error


def record(judge: Judge) -> dict[str, Any]:
    """Who judged, for what lies beside the scores."""
    return {**asdict(judge), "fingerprint": judge.fingerprint}


def _origin(results: Results) -> dict[str, Any]:
    return {"results": results.path.name, "sha256": file_sha256(results.path)}
