"""Where the files of a data set are: a local folder, or a pinned copy from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from artifacts import hub
from artifacts.errors import InputError
from sdpo.pairs.reading.checksums import verify
from sdpo.pairs.reading.options import SPLIT, HubOptions, SourceOptions


def data_folder(source: str, options: SourceOptions, *, more_files: Sequence[str] = ()) -> Path:
    """The folder that holds the data set, downloaded and verified as the options ask.

    Args:
        source: name of the source, for messages.
        options: where the files are.
        more_files: patterns, with ``{split}``, of files that ``options.files`` does not name and that are to be
            downloaded too.

    Raises:
        InputError: the folder is missing, cannot be downloaded, or is not what the manifest lists.
    """
    if isinstance(options, HubOptions) and options.repo is not None:
        folder = _snapshot(source, options, more_files)
    else:
        assert options.path is not None
        folder = Path(options.path)
        if not folder.is_dir():
            what = "a file; expected its folder, and its name in `files`" if folder.is_file() else "no such folder"
            raise InputError(f"pair source '{source}': path {folder}: {what}; paths are relative to where the job runs")
    if options.manifest is not None:
        verify(folder, Path(options.manifest))
    return folder


def split_files(source: str, folder: Path, options: SourceOptions, split: str) -> list[Path]:
    """Files of a split, sorted by name.

    Raises:
        InputError: there are none, or one is of another split too.
    """
    pattern = options.files.replace(SPLIT, split)
    found = _matching(source, folder, options, split)
    # A pattern such as ``{split}*`` takes ``test_unique`` for ``test``, and its pairs would be there twice.
    others = [other for other in (*options.train_splits, *options.heldout_splits) if other != split]
    for other in others if SPLIT in options.files else ():
        if both := sorted(set(found) & set(_matching(source, folder, options, other))):
            raise InputError(
                f"pair source '{source}': files = {options.files!r} takes {both[0]} for split '{split}' and for "
                f"'{other}'; expected a pattern by which each file is of one split"
            )
    if not found:
        instead = "; without that split, set heldout_splits: [] and heldout_share" if split != "train" else ""
        raise InputError(
            f"pair source '{source}': split '{split}': no file {pattern} in {folder}; correct path or files, or fetch "
            f"what is missing{instead}"
        )
    return found


def _matching(source: str, folder: Path, options: SourceOptions, split: str) -> list[Path]:
    try:
        return sorted(path for path in folder.glob(options.files.replace(SPLIT, split)) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"pair source '{source}': files = {options.files!r}: {error}; expected a pattern") from error


def _snapshot(source: str, options: HubOptions, more_files: Sequence[str]) -> Path:
    """Download the files of the chosen splits; what is in the hub's cache is not downloaded again."""
    assert options.repo is not None
    splits = (*options.train_splits, *options.heldout_splits)
    patterns = {pattern.replace(SPLIT, split) for pattern in (options.files, *more_files) for split in splits}
    # The hub's patterns know no `**/` that stands for no folder at all.
    patterns |= {pattern.removeprefix("**/") for pattern in patterns}
    try:
        return hub.snapshot(options.repo, options.revision, sorted(patterns), kind="dataset")
    except InputError as error:
        raise InputError(
            f"pair source '{source}': data set {options.repo} at {options.revision} cannot be downloaded: "
            f"{error}; it may have moved: give another repo and revision, or fetch it by hand and give "
            "path (docs/pairs.md lists mirrors)"
        ) from error
