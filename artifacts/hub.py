"""Weights that are named by a local folder or by a hub id with its revision, ``owner/name@revision``.

Only configuration, tokenizers and safetensors are fetched: nothing that could run code, and each weight once.
"""

from __future__ import annotations

import re
from pathlib import Path

from artifacts.atomic import tree_sha256
from artifacts.errors import InputError

# Of weights in the top folder only those of an autoencoder that is a repository of its own: others are whole models
# in one file, which the folders below hold too.
FETCHED = ("*.json", "*.txt", "*/*.safetensors", "diffusion_pytorch_model.safetensors")
LEFT_OUT = (
    # Half-precision and averaged copies of the same weights, exports to other runtimes.
    *("*.fp16.*", "*non_ema*", "*ema_only*", "*onnx*", "*openvino*", "*flax*"),
    *("safety_checker/*", "feature_extractor/*", "vae_1_0/*", "vae_encoder/*", "vae_decoder/*", "image_encoder/*"),
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_local(path: str) -> bool:
    """Whether a path names a local file or folder rather than a hub id."""
    return Path(path).expanduser().exists() or _ID.fullmatch(path) is None or path.startswith((".", "resources/"))


def local_folder(path: str) -> Path:
    """The folder itself, or that of a hub id, fetched if it is not there.

    Args:
        path: a folder, or ``owner/name@revision``.

    Raises:
        InputError: a hub id without revision, or one that is not here and cannot be fetched.
    """
    if is_local(path):
        return Path(path).expanduser()
    from huggingface_hub import snapshot_download

    found = _ID.fullmatch(path)
    assert found is not None
    name, revision = found["name"], found["revision"]
    if revision is None:
        raise InputError(
            f"{path}: no such folder, and as a hub id it has no revision: write {name}@<commit>, so that the run can "
            "be repeated"
        )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*FETCHED], ignore_patterns=[*LEFT_OUT]))
    except InputError:
        raise
    # What is raised without network, account or such a revision depends on the library's version.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: not here and cannot be fetched ({reason}); fetch it where there is a network with "
            f"`hf download {name} --revision {revision}`, or name a local folder in diffusers' layout"
        ) from error


def cached_folder(path: str) -> Path | None:
    """The folder of a hub id's revision, as far as it has been fetched; ``None`` if nothing of it has.

    Args:
        path: ``owner/name@revision``.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, _, revision = path.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def commit_of(path: Path) -> str | None:
    """The commit that a file or folder in the hub's cache is of; ``None`` for one that lies elsewhere."""
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
            return folder.name
    return None


def content_digest(path: str) -> str:
    """Digest of all files of a folder; for a hub id the commit that was fetched."""
    folder = local_folder(path)
    return tree_sha256(folder) if is_local(path) else folder.name
