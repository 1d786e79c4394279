"""Tokens as bytes: what a server calls a token, and which of ours it is."""

import re

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
PROBE = 'In October 2024, Harris had 47.8%: naïve, 東京, a\tb  c\n\nQuestion: "Who?" 1234567 ()[]'
"""A text that two tokenizers are unlikely to cut into as many pieces."""


def ids_by_bytes(tokenizer: PreTrainedTokenizerBase) -> dict[bytes, int]:
    """The id of every token by the bytes that it stands for; those that share theirs are left out.

    Special tokens stand for their names.
    """
    decoder = str(getattr(tokenizer, "backend_tokenizer", tokenizer).decoder)
    in_byte_letters = "ByteLevel" in decoder
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    added = tokenizer.get_added_vocab()
    found: dict[bytes, int] = {}
    shared = set()
    for token, number in tokenizer.get_vocab().items():
        if token in added:
            stands_for = token.encode()
        elif in_byte_letters:
            stands_for = bytes(letters[letter] for letter in token)
        elif byte := BYTE.fullmatch(token):
            stands_for = bytes.fromhex(byte[1])
        else:
            stands_for = token.replace("▁", " ").encode()
        if stands_for in found:
            shared.add(stands_for)
        found[stands_for] = number
    return {stands_for: number for stands_for, number in found.items() if stands_for not in shared}


def bytes_of(token: str) -> bytes:
    r"""What a server's token stands for: its text, or bytes written out as `bytes:\xe2\x80`."""
    if token.startswith("bytes:"):
        parts = ESCAPED.split(token.removeprefix("bytes:"))  # text and bytes by turns
        return b"".join(
            bytes.fromhex(part) if place % 2 else part.encode() for place, part in enumerate(parts)
        )
    return token.encode()
