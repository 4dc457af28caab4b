"""Writing of a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_JPEG_QUALITY = 95


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W) or (H, W, 3) RGB, uint8; a JPEG by the suffix .jpg, else a PNG."""
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY) if path.suffix == ".jpg" else ()
    done, encoded = cv2.imencode(
        path.suffix, image[..., ::-1] if image.ndim == 3 else image, options
    )
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
