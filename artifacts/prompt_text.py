"""What holds for the text of a prompt wherever it comes from: what is no text, which two are one, what is no word."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import Any

CONTROL_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "[DEC]",
    "[ENC]",
)
"""Control tokens of CLIP (transformers) and BERT, as text; found as they are spelled."""
OPEN_CLIP_CONTROL_TOKENS = ("<start_of_text>", "<end_of_text>")
"""Those of open_clip, found in any case and behind HTML's escapes."""


def is_text(value: str) -> bool:
    """Whether a string is Unicode text: JSON's escapes, and names of files, may hold halves of characters."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def fault(value: Any) -> str:
    """Why a value can be nobody's prompt, as what follows 'the prompt is'; empty if it can."""
    if not isinstance(value, str):
        return f"{'nothing' if value is None else type(value).__name__}, expected text"
    if not value.strip():
        return "empty"
    if not is_text(value):
        return f"{value!a}, which is not Unicode text"
    return f"{value!a}, which holds a NUL" if "\0" in value else ""


def same(text: str) -> str:
    """What two prompts have in common that count as one: Unicode form NFC, case and white space are left out.

    The text encoders of the bases and of the scorers tell hardly more apart, and people type no more on purpose.
    """
    # Folding the case may undo the form.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def control_tokens(text: str) -> list[str]:
    """Parts of a text that some tokenizer takes for control tokens, not for words."""
    plain = html.unescape(html.unescape(text)).lower()
    return [token for token in CONTROL_TOKENS if token in text] + [
        token for token in OPEN_CLIP_CONTROL_TOKENS if token in plain
    ]


def control_token_warning(prompts: Sequence[str], total: int | None = None) -> str:
    """One line on the prompts with :func:`control_tokens`, without a line end; empty if there are none.

    Args:
        total: how many prompts there are, where only some of them are given.
    """
    found = [(prompt, tokens) for prompt in prompts if (tokens := control_tokens(prompt))]
    if not found:
        return ""
    (prompt, tokens), count, total = found[0], len(found), len(prompts) if total is None else total
    return (
        f"{count} of {total} prompts {'hold' if count > 1 else 'holds'} text that tokenizers read as control tokens, "
        f"as the published models do: {tokens[0]} in {prompt[:60]!r} (docs/prompt-sets.md)"
    )
