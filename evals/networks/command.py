"""A scorer that is a program of its own, in whatever environment it needs: lines of JSON in, lines of JSON out.

The program is started once, with its arguments, and speaks first, one line about itself:

    {"scorer": "hpsv3", "version": "1.0", "weights_sha256": "…"}

Then it reads one line an image, ``{"image": "/path/of.png", "prompt": "…"}``, and writes for each, in this order,
``{"score": 1.25}``, or ``{"error": "…"}`` for one that it cannot take. An empty line ends a batch: all answers are due,
so it may rate as many at once as it likes. The end of its input ends it. What it writes to its standard error is the
job's log.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from artifacts.file_names import user_path
from evals.networks.interface import Fingerprint, RefusedImageError, check_lengths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

DEFAULTS: dict[str, Any] = {"path": "", "python": "", "arguments": []}
"""Options: the program's file; the interpreter that runs it, by default this one; what it is given."""
ABOUT = ("scorer", "version", "weights_sha256")
"""What a program says of itself."""
_PIECE = 1 << 16


class CommandScorer:
    """A running program.

    Args:
        name: of the scorer, for messages and in its fingerprint.
        version: of the module that registers it.
        options: as :data:`DEFAULTS`.

    Raises:
        InputError: there is no such program, it ends, or says something else than what is expected.
    """

    def __init__(self, name: str, version: int, options: Mapping[str, Any]) -> None:
        self.name = name
        program = user_path(options["path"])
        if not options["path"] or not program.is_file():
            raise InputError(f"scorer '{name}': options.path is {options['path']!r}, expected the file of a program")
        arguments = [str(argument) for argument in options["arguments"]]
        command = [str(user_path(options["python"])) if options["python"] else sys.executable, str(program), *arguments]
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise InputError(f"scorer '{name}': {command[0]} cannot be started ({error.strerror})") from error
        self._unread = b""
        weakref.finalize(self, _end, self._process)
        about = self._answer("about itself")
        if missing := [key for key in ABOUT if not isinstance(about.get(key), str)]:
            raise InputError(
                f"scorer '{name}': {program.name} says {json.dumps(about)[:200]} of itself; expected text for "
                f"{', '.join(missing)}"
            )
        self.fingerprint = Fingerprint(
            {
                "scorer": name,
                "version": version,
                "program": file_sha256(program),
                "arguments": [file_sha256(Path(a)) if Path(a).is_file() else a for a in arguments],
                "about": {key: about[key] for key in ABOUT},
            }
        )

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Raw scores (N,); the program sees each image as it was decoded, in a PNG file.

        Raises:
            RefusedImageError: the program cannot take an image.
            InputError: it has ended, or answers something else than one number an image.
        """
        import numpy as np

        check_lengths(len(images), len(prompts))
        self._refuse_more()
        found = np.empty(len(images), dtype=np.float64)
        with tempfile.TemporaryDirectory() as folder:
            lines = []
            for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
                file = Path(folder) / f"{place:05d}.png"
                image.save(file, compress_level=1)
                lines.append(json.dumps({"image": str(file), "prompt": prompt}))
            # Apart from reading, or both would wait once the pipes are full.
            writer = Thread(target=_write, args=(self._process.stdin, "\n".join([*lines, "", ""])), daemon=True)
            writer.start()
            for place in range(len(images)):
                answer = self._answer(f"of image {place + 1} of {len(images)}")
                if isinstance(reason := answer.get("error"), str):
                    raise RefusedImageError(place, reason)
                if isinstance(score := answer.get("score"), bool) or not isinstance(score, int | float):
                    raise InputError(
                        f"scorer '{self.name}': its program answers {json.dumps(answer)[:200]}; expected "
                        '{"score": a number}'
                    )
                found[place] = score
            writer.join()
        self._refuse_more()
        return found

    def _refuse_more(self) -> None:
        """Refuse lines that nobody asked for: the next images would have them for answers."""
        assert self._process.stdout is not None
        if not self._unread and select.select([self._process.stdout], [], [], 0)[0]:
            self._unread = os.read(self._process.stdout.fileno(), _PIECE)
        if self._unread:
            line = self._unread.decode(errors="replace").splitlines()[0]
            raise InputError(
                f"scorer '{self.name}': its program writes {line[:200]!r} after all answers; expected one line an "
                "image, and nothing else on its standard output"
            )

    def _line(self) -> bytes:
        """The next line of the program; empty if it has ended."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            if not (piece := os.read(self._process.stdout.fileno(), _PIECE)):
                break
            self._unread += piece
        line, end, self._unread = self._unread.partition(b"\n")
        return line + end

    def _answer(self, about: str) -> dict[str, Any]:
        """The next line of the program, which is an object."""
        line = self._line()
        if not line:
            status = self._process.wait()
            raise InputError(
                f"scorer '{self.name}': its program ended with status {status} before it said anything {about}; "
                "what it wrote to its standard error says why"
            )
        text = line.decode(errors="replace").strip()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise InputError(
                f"scorer '{self.name}': its program writes {text[:200]!r}, expected a JSON object {about}; "
                "print nothing else to its standard output"
            )
        return answer


def _write(pipe: IO[bytes], text: str) -> None:
    # A program that has ended is noticed where its answer is missing.
    try:
        pipe.write(text.encode())
        pipe.flush()
    except (BrokenPipeError, ValueError):
        return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close its input, and end it if that does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
