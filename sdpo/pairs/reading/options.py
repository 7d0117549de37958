"""Options that the sources of published data sets have in common.

A source has a model ``Options`` of its own that adds to these and changes defaults. The models are checked with the
config, before the first job, and again by the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, Field, model_validator

from artifacts import validation
from artifacts.block import Block
from artifacts.text_lines import twice

SPLIT = "{split}"
"""What stands for the name of a split in a pattern of file names."""

_Model = TypeVar("_Model", bound=BaseModel)


def files_option(default: str) -> Any:
    """The option ``files`` with the pattern of a data set."""
    return Field(
        default=default,
        min_length=1,
        description="Files of a split, as a pattern relative to the folder; `{split}` stands for the split's name and "
        "`**` for any folders. Without `{split}` all files are one split, `train`.",
    )


def heldout_splits_option(default: list[str]) -> Any:
    """The option ``heldout_splits`` with the splits of a data set."""
    return Field(
        default=default,
        description="Splits that measure the drift. Their prompts are left out of training, should they be in both.",
    )


def heldout_limit_option(default: int | None) -> Any:
    """The option ``heldout_limit``."""
    return Field(default=default, ge=1, description="As `limit`, for held-out pairs.")


class SourceOptions(Block):
    """Where the files are, which pairs are taken, and what is done about broken ones."""

    SPLITS_IN_ROWS: ClassVar[bool] = False
    """Whether each row names its split, so that file names need not."""
    FROM_HUB: ClassVar[bool] = False
    """Whether the files may come from the hub instead of a folder."""

    path: str | None = Field(default=None, min_length=1, description="Folder that holds the data set.")
    files: str = files_option("**/*")
    manifest: str | None = Field(
        default=None,
        min_length=1,
        description="File with the SHA-256 of every file of the folder, as `sdpo pairs manifest` and `sha256sum` write "
        "it; checked before anything is read.",
    )
    train_splits: list[str] = Field(
        default=["train"], min_length=1, description="Splits of the data set that are trained on."
    )
    heldout_splits: list[str] = heldout_splits_option([])
    heldout_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the prompts of `train_splits` that is held out too, with all their pairs.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="Number of pairs to train on, chosen by a hash of what a pair is: the same ones every time, and a "
        "smaller limit takes a part of a larger one's.",
    )
    heldout_limit: int | None = heldout_limit_option(None)
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="Another seed makes another choice and other held-out prompts."
    )
    ties: Literal["drop", "keep"] = Field(
        default="drop",
        description="`drop`: count pairs without a winner and leave them out. `keep`: encode them too, with label 0.5; "
        "they are not trained on.",
    )
    max_broken: int = Field(
        default=100,
        ge=0,
        description="Number of broken pairs (an image that cannot be opened, no prompt, no label) that are listed and "
        "skipped; one more stops the job.",
    )

    @model_validator(mode="after")
    def _disjoint_splits(self) -> SourceOptions:
        if both := [split for split in self.train_splits if split in self.heldout_splits]:
            raise ValueError(f"split '{both[0]}' is in train_splits and in heldout_splits; expected it in one of them")
        for name, splits in (("train_splits", self.train_splits), ("heldout_splits", self.heldout_splits)):
            if (double := twice(splits)) is not None:
                raise ValueError(
                    f"{name} has '{double}' twice, whose pairs would be read twice; expected each split once"
                )
        other = [split for split in (*self.train_splits, *self.heldout_splits) if split != "train"]
        if other and not self.SPLITS_IN_ROWS and SPLIT not in self.files:
            raise ValueError(
                f"split '{other[0]}': files has no {SPLIT}, so that all files are one split, 'train'; write {SPLIT} "
                "where the file names have it, or use heldout_share"
            )
        return self

    @model_validator(mode="after")
    def _one_place(self) -> SourceOptions:
        if not self.FROM_HUB and self.path is None:
            raise ValueError("path is missing; expected the folder that holds the data set")
        return self


class HubOptions(SourceOptions):
    """As :class:`SourceOptions`, for data sets that can be read as the hub has them."""

    FROM_HUB: ClassVar[bool] = True

    repo: str | None = Field(
        default=None,
        pattern=validation.REPOSITORY_PATTERN,
        description="Data set on the hub, `owner/name`, instead of `path`; it is downloaded into the hub's own cache.",
    )
    revision: str | None = Field(
        default=None,
        pattern=validation.COMMIT_PATTERN,
        description="Commit of `repo`, 40 hexadecimal digits; no branch.",
    )

    @model_validator(mode="after")
    def _path_or_repo(self) -> HubOptions:
        if (self.path is None) == (self.repo is None):
            raise ValueError("expected either path, a folder, or repo, a data set on the hub")
        if (self.repo is None) != (self.revision is None):
            raise ValueError("expected repo and revision together, so that the data cannot change unnoticed")
        return self


def parse(source: str, model: type[_Model], options: Mapping[str, Any]) -> _Model:
    """The options of a source as its model.

    Raises:
        InputError: unknown options or wrong values, all of them in one line.
    """
    return validation.parse(model, options, f"pair source '{source}'")
