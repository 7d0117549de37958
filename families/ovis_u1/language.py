"""Conditions of Ovis-U1's prompts: what its language part says of a text and a blank image.

The language part is the model's own code, which was written for other versions than this project's. It runs in a
process of another interpreter, by :mod:`families.ovis_u1.language_worker`, and only where ``base.language`` allows it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import json_sha256
from artifacts.block import LanguageBlock
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.hub import commit_of
from artifacts.validation import parse

if TYPE_CHECKING:
    import torch

WORKER = Path(__file__).with_name("language_worker.py")
PROMPT = (
    "<image>\nDescribe the image by detailing the color, shape, size, texture, quantity, text, and spatial "
    "relationships of the objects:"
)
"""What stands before a prompt, as in the model's own ``test_txt_to_img.py``."""
NO_PROMPT = "<image>\nGenerate an image."
"""What stands for no prompt."""
SIDE = 1024
"""Side of the blank image; all square ones of 448 pixels and more become the same 448."""
TEMPLATE = json_sha256([PROMPT, NO_PROMPT, SIDE])
"""Digest of all of these."""


def asked(prompt: str) -> str:
    """What the language part is told of a prompt; the empty one is none."""
    return PROMPT + prompt if prompt else NO_PROMPT


def allowed(settings: Mapping[str, Any] | None, folder: Path) -> LanguageBlock:
    """``base.language``, if it allows what is needed.

    Args:
        settings: as a config or a job description has them.
        folder: of the base.

    Raises:
        InputError: it does not, or is of another revision than the folder.
    """
    needed = "prompts of Ovis-U1 are encoded by the code of its checkpoint"
    if settings is None:
        raise InputError(
            f"base.language is missing: {needed}; read that code, and set allow_remote_code: true, python and revision"
        )
    found = parse(LanguageBlock, settings, "base.language")
    if not found.allow_remote_code:
        raise InputError(
            f"base.language.allow_remote_code is false, but {needed}; read it at the revision, and set it to true"
        )
    if (commit := commit_of(folder)) not in (None, found.revision):
        raise InputError(f"base.language.revision is {found.revision}, but base.path is at {commit}; name the same")
    return found


class LanguagePart:
    """The language part of a checkpoint, started when it is first asked.

    Args:
        folder: of the checkpoint.
        settings: interpreter and revision.
        dtype: in which it computes.
        device: where.
    """

    def __init__(self, folder: Path, settings: LanguageBlock, *, dtype: str, device: Any) -> None:
        self.folder, self.settings, self.dtype, self.device = folder, settings, dtype, str(device)
        self._process: subprocess.Popen[str] | None = None

    def encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        """Conditions of N prompts, each (T, D).

        Raises:
            InputError: the interpreter cannot be started, or the model's code fails.
        """
        from safetensors.torch import load_file

        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "conditions.safetensors"
            self._ask({"texts": [asked(prompt) for prompt in prompts], "out": str(out)})
            found = load_file(out)
        return list(found["text"].split(found["text_lengths"].tolist()))

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            # At the end of its input it ends by itself.
            self._process.communicate()
            self._process = None

    def _ask(self, request: Mapping[str, Any]) -> None:
        if self._process is None:
            self._process = self._started()
            self._answer()
        assert self._process.stdin is not None
        # One that has died says so in its answer.
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        self._answer()

    def _started(self) -> subprocess.Popen[str]:
        options = {
            "model": _hub_name(self.folder) or str(self.folder.resolve()),
            "revision": self.settings.revision,
            "dtype": self.dtype,
            "device": self.device,
            "side": str(SIDE),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        # Isolated: nothing of this project or of its environment is found.
        command = [str(user_path(self.settings.python)), "-I", str(WORKER), *words]
        try:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"base.language.python is {self.settings.python}: cannot be started ({error.strerror}); expected a "
                "Python with the packages of the model's own code"
            ) from error

    def _answer(self) -> None:
        """Wait for a line."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reason = json.loads(line).get("error") if line else f"it ended with status {self._process.wait()}"
        if reason is not None:
            self.close()
            raise InputError(
                f"the language part of {self.folder} fails in {self.settings.python}: {' '.join(reason.split())}; "
                "docs/flow-models.md says what that environment needs"
            )


def _hub_name(folder: Path) -> str | None:
    """Owner and name of a folder in the hub's cache, in which the model's code may not lie yet."""
    if commit_of(folder) is None:
        return None
    return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
