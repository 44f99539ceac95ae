"""Damage to files of CEOS records, at random."""

from __future__ import annotations

import struct

import numpy as np

WORDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x0b", b"\0\0\1\0")
TEXTS = (b"99999999", b"      -1", b"     NAN", b"  1E+300", b"       0", b"        ", b"garbage!")


def damaged(content, rng):
    """One kind of damage: cut, flipped bits, a wrong length or size, a number that cannot be."""
    content = bytearray(content)
    kind = rng.integers(5)
    if kind == 0:
        return bytes(content[: rng.integers(len(content))])
    if kind == 1:
        for at in rng.integers(len(content), size=rng.integers(1, 40)):
            content[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        starts = [0]
        while starts[-1] + 12 <= len(content):
            length = struct.unpack_from(">I", content, starts[-1] + 8)[0]
            if length < 12:
                break
            starts.append(starts[-1] + length)
        at = starts[int(rng.integers(max(1, len(starts) - 1)))] + int(rng.choice([0, 4, 8]))
        word = WORDS[int(rng.integers(len(WORDS)))]
        content[at : at + len(word)] = word
    elif kind == 3:
        filled = [at for at in range(min(len(content), 120_000)) if content[at] in b"0123456789"]
        at = filled[int(rng.integers(len(filled)))] if filled else 0
        text = TEXTS[int(rng.integers(len(TEXTS)))]
        content[at : at + len(text)] = text
    else:
        at = int(rng.integers(len(content)))
        size = int(rng.integers(1, 400))
        content[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    return bytes(content)
