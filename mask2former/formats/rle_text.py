"""COCO's compressed run-length encoding, read without trust in what it holds."""

import numpy as np


def decode_counts(text: bytes) -> np.ndarray:
    """Run lengths of COCO's compressed text, background first.

    A number has 5 bits a character, lowest first; bit 5 says that more follow. From the fourth on,
    it is the difference to the one two places before it.

    Args:
        text: the `counts` of an RLE.

    Returns:
        (R,), int64, which may be negative where the text was made up.

    Raises:
        ValueError: the text is damaged.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or ends[-1:] != codes.size - 1:
        raise ValueError("RLE counts: the text is damaged or cut short")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError("RLE counts: a run is longer than any image")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)  # sign extension
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
