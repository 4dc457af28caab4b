"""Segments over their image as SVG, which a browser shows with names where the mouse is."""

import base64
import html
import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from ...results.segments import Segment

_LONGEST = 1024  # side of the image behind the segments, in pixels
_STYLE = (
    ".m2f{width:100%;height:auto;display:block;border-radius:4px}"
    ".m2f path{fill-opacity:.5;stroke-width:1.5px;vector-effect:non-scaling-stroke}"
    ".m2f path:hover{fill-opacity:.85;stroke:#fff}"
)


def overlay(image: np.ndarray, segments: Sequence[Segment]) -> str:
    """Return an SVG of an image (H, W, 3), uint8, RGB, with a path for each segment.

    Paths have names, scores and areas as titles, and coordinates in pixels of the image.
    """
    height, width = image.shape[:2]
    paths = "".join(map(_path, segments))
    return (
        f'<svg class="m2f" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"<style>{_STYLE}</style>"
        f'<image width="{width}" height="{height}" href="{_data_url(image)}"/>{paths}</svg>'
    )


def _path(segment: Segment) -> str:
    red, green, blue = (round(255 * part) for part in segment.colour)
    colour = f"rgb({red},{green},{blue})"
    return (
        f'<path data-number="{segment.number}" fill="{colour}" stroke="{colour}" '
        f'fill-rule="evenodd" d="{_outline(segment.mask)}">'
        f"<title>{html.escape(segment.title)}</title></path>"
    )


def _outline(mask: np.ndarray) -> str:
    """Return the outlines of a mask (H, W), bool, and of its holes, as the data of a path.

    They go a quarter of a pixel inside of the edges, as each pixel is drawn as four before.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = rows[0], columns[0]
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    lines, _ = cv2.findContours(
        part.repeat(2, 0).repeat(2, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    parts = []
    for line in lines:
        points = (line[:, 0] + 0.5) / 2 + (left, top)
        parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z")
    return "".join(parts)


def _data_url(image: np.ndarray) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((_LONGEST, _LONGEST))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
