"""Tokenizers whose vocabulary is the words of the world, and little else: CLIP's, and T5's for the flow base.

Byte-level BPE as in CLIP: 256 bytes, the same with the end-of-word mark, a chain of merges for each
word, and the two special tokens last, because text towers that pool at the highest token id expect the
end token there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worlds.miniature.scenes import COLOURS, RELATIONS, SHAPES, SIZES

if TYPE_CHECKING:
    from transformers import CLIPTokenizer, T5Tokenizer

CONTEXT_LENGTH = 20
T5_LENGTH = 16
"""Tokens of the longest caption with its end."""
START, END = "<|startoftext|>", "<|endoftext|>"


def words() -> list[str]:
    """Every word of a caption, sorted."""
    sentence = " ".join([*COLOURS, *SHAPES, *SIZES, *RELATIONS, "a on background"])
    return sorted(set(sentence.split()))


def build() -> CLIPTokenizer:
    """The tokenizer: one token a known word, bytes for anything else; captions take at most 16 tokens."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(s + "</w>" for s in symbols)]
    merges: list[tuple[str, str]] = []
    for word in words():
        pieces = [*word[:-1], word[-1] + "</w>"]
        # Follow the merges there are, in their order, as the tokenizer will; then finish the word from the left.
        for left, right in merges:
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == (left, right):
                    pieces[i : i + 2] = [left + right]
                i += 1
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces[:2] = [pieces[0] + pieces[1]]
            tokens.append(pieces[0])
    vocabulary = {token: i for i, token in enumerate([*dict.fromkeys(tokens), START, END])}
    # The annotation of `merges` is narrower than what the class takes.
    options: dict[str, Any] = {"vocab": vocabulary, "merges": merges, "model_max_length": CONTEXT_LENGTH}
    return CLIPTokenizer(**options)


def build_t5() -> T5Tokenizer:
    """T5's: one piece a known word, letters for anything else; captions take at most 15 tokens and an end."""
    from transformers import T5Tokenizer

    letters = [(chr(code), -8.0) for code in range(ord("a"), ord("z") + 1)]
    # The space by itself, before what is no word; likelier pieces are taken first.
    known = [("\u2581", -5.0), *((f"\u2581{word}", -2.0) for word in words())]
    vocabulary: Any = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *known, *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=T5_LENGTH)
