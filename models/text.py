"""What happens to a text before a tokenizer sees it: cut, then cleaned; both are remembered.

The post keeps its own text; only the scorer's copy changes.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Characters per token that a text may have before it is cut: more than any language needs, so a
#: cut here only ever removes what the token limit would have removed, and a text of a megabyte
#: costs no more than one of a kilobyte.
CHARS_PER_TOKEN = 16
_REPLACEMENT = "\ufffd"


def cut(text: str, max_tokens: int) -> tuple[str, bool]:
    """The beginning of `text` that can matter, and whether anything was left out."""
    limit = max_tokens * CHARS_PER_TOKEN
    return (text, False) if len(text) <= limit else (text[:limit], True)


def clean(text: str) -> tuple[str, bool]:
    """`text` with NUL and lone surrogates replaced by U+FFFD, and whether there were any.

    Surrogates that form a pair become the character they stand for.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text.replace("\0", _REPLACEMENT), True
    if "\0" in text:
        return text.replace("\0", _REPLACEMENT), True
    return text, False


def spell_out(text: str, special_tokens: Iterable[str]) -> str:
    """`text` with the names of special tokens broken up.

    A post that says `</s>` means the letters; the tokenizer would end the text there.
    """
    if "<" in text or "[" in text:
        for token in special_tokens:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
