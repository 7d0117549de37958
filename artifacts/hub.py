"""Files on the hub, through the hub's own library: its cache, its tokens, its mirrors; its errors in one line.

A base is named by a local folder or by a hub id with its revision, ``owner/name@revision``. Only its configuration,
tokenizers and safetensors are fetched: nothing that could run code, and each weight once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from artifacts.atomic import tree_sha256
from artifacts.errors import InputError
from artifacts.file_names import user_path

# Of weights in the top folder only those of an autoencoder that is a repository of its own: others are whole models
# in one file, which the folders below hold too; or of a base that is no pipeline, in one file or in shards.
FETCHED = (
    *("*.json", "*.txt", "*/*.safetensors", "diffusion_pytorch_model.safetensors"),
    *("model.safetensors", "model-?????-of-?????.safetensors"),
)
LEFT_OUT = (
    # Half-precision and averaged copies of the same weights, exports to other runtimes.
    *("*.fp16.*", "*non_ema*", "*ema_only*", "*onnx*", "*openvino*", "*flax*"),
    *("safety_checker/*", "feature_extractor/*", "vae_1_0/*", "vae_encoder/*", "vae_decoder/*", "image_encoder/*"),
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def is_local(path: str) -> bool:
    """Whether a path names a local file or folder rather than a hub id."""
    return user_path(path).exists() or _ID.fullmatch(path) is None or path.startswith((".", "resources/"))


def local_folder(path: str) -> Path:
    """The folder itself, or that of a hub id, fetched if it is not there.

    Args:
        path: a folder, or ``owner/name@revision``.

    Raises:
        InputError: a hub id without revision, or one that is not here and cannot be fetched.
    """
    if is_local(path):
        return user_path(path)
    found = _ID.fullmatch(path)
    assert found is not None
    name, revision = found["name"], found["revision"]
    if revision is None:
        raise InputError(
            f"{path}: no such folder, and as a hub id it has no revision: write {name}@<commit>, so that the run can "
            "be repeated"
        )
    try:
        return snapshot(name, revision, FETCHED, left_out=LEFT_OUT)
    except InputError as error:
        raise InputError(
            f"{path}: not here and cannot be fetched ({error}); fetch it where there is a network with "
            f"`hf download {name} --revision {revision}`, or name a local folder in diffusers' layout"
        ) from error


def snapshot(
    name: str, revision: str | None, wanted: Sequence[str], *, left_out: Sequence[str] = (), kind: str = "model"
) -> Path:
    """Files of a repository's revision, by patterns, in the hub's cache; fetched if they are not there.

    Args:
        kind: ``model`` or ``dataset``.

    Raises:
        InputError: why they cannot be had, and what helps, without saying which they are.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name, repo_type=kind, revision=revision, allow_patterns=[*wanted], ignore_patterns=[*left_out]
        )
    # Without network, account or such a revision the library raises what its transport does.
    except Exception as error:
        raise InputError(reason(error)) from error
    return Path(folder)


def cached_file(name: str, revision: str, file: str, *, kind: str = "model") -> Path | None:
    """A file of a repository's revision in the hub's cache; ``None`` if it has not been fetched."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file, revision=revision, repo_type=kind)
    return Path(found) if isinstance(found, str) else None


def fetch_file(name: str, revision: str, file: str, cache: Path, *, kind: str = "model") -> Path:
    """The same, fetched into ``cache``, a folder like the hub's own.

    Raises:
        InputError: as :func:`snapshot`.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name, file, cache_dir=cache, revision=revision, repo_type=kind))
    except Exception as error:
        raise InputError(reason(error)) from error


def reason(error: Exception) -> str:
    """Why the hub's library does not give a file, in one line with what helps; never with the user's token."""
    from huggingface_hub import errors, get_token

    # The library says that a file is neither here nor to be had; why, is the cause.
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    known: dict[type[Exception], str] = {
        # A gated repository counts as one that is not found, so it comes first.
        errors.GatedRepoError: "the repository is gated: accept its terms on its page, and log in with "
        "`hf auth login` or set HF_TOKEN",
        errors.RepositoryNotFoundError: "no such repository, or a private one: correct the name, or log in with "
        "`hf auth login` or set HF_TOKEN",
        errors.RevisionNotFoundError: "no such revision: correct it",
        errors.RemoteEntryNotFoundError: "no such file in this revision: correct the one or the other",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set: unset it",
    }
    for kind, words in known.items():
        if isinstance(cause, kind):
            return words
    text = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    token = get_token()
    return text.replace(token, "***") if token else text


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
