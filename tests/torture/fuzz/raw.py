"""Damage done to bytes and to text, whatever they mean, from a seeded generator."""

from __future__ import annotations

import random
import struct


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return bytes of which some are flipped, overwritten, moved, doubled or cut off."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not content:
            break
        at = rng.randrange(len(content))
        length = rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(7)
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            value = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1))
            number = struct.pack(form, value & (256 ** struct.calcsize(form) - 1))
            content[at : at + len(number)] = number
        elif kind == 3:
            del content[at : at + length]
        elif kind == 4:
            content[at:at] = content[at : at + length]
        elif kind == 5:
            source = rng.randrange(len(content))
            content[at : at + length] = content[source : source + length]
        else:
            del content[at:]
    return bytes(content)


def damaged_text(rng: random.Random, text: str) -> str:
    """Return a text with characters of it changed, doubled or left out."""
    letters = list(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(letters) + 1)
        length = rng.choice((0, 0, 1, 1, 4))
        new = rng.choice(("", chr(rng.randrange(33, 127)), "o", "0", "\x7f", "é", "~~~~~~~~"))
        letters[at : at + length] = new
    return "".join(letters)
