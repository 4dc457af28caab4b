"""Pictures of mosaics, small enough to look at, and the page that shows them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..formats.atomic import is_disk_full
from ..painting import ContactSheet
from ..results.regions import KINDS, class_colour, object_colour
from .files import MosaicFiles
from .result import Mosaic

_OPACITY = 0.55  # of colours inside of a region


def choose(mosaic: Mosaic, kind: str | None = None) -> str:
    """Say what to draw of a mosaic: the kind wanted, or the richest one that it has.

    Raises:
        UserError: the mosaic has no such kind.
    """
    options = mosaic.options
    given = [
        k for k, on in zip(KINDS, (options.panoptic, options.instances, options.semantic)) if on
    ]
    if kind is None and given:
        return given[0]
    if kind not in given:
        raise UserError(f"cannot draw {kind}: the model gives {', '.join(given) or 'nothing'}")
    return kind


def picture(mosaic: Mosaic, metadata: Mapping[str, Any], kind: str | None = None) -> np.ndarray:
    """Return the overview of a mosaic (h, w, 3), uint8, RGB, with its result in colours.

    Things have a colour each, stuff and labels that of their class; where regions meet, the colour
    is unmixed. Names would hide what they stand on.

    Raises:
        UserError: the mosaic has no such kind.
    """
    if choose(mosaic, kind) == "semantic":
        rows = mosaic.labels()
        colours = [class_colour(metadata, label) for label in range(mosaic.num_classes)]
        colours.append(np.zeros(3))  # of -1
        void = -1
    else:
        rows, void = mosaic.panoptic(), 0
        colours = [np.zeros(3)]
        for s in mosaic.segments:
            is_thing, label = s["isthing"], s["category_id"]
            colours.append(object_colour(s["id"]) if is_thing else class_colour(metadata, label))
    regions = np.concatenate(list(_every(rows, mosaic.step)))
    table = np.array(colours, np.float32) * 255
    outline = np.zeros(regions.shape, bool)
    outline[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    outline[1:] |= regions[1:] != regions[:-1]
    opacity = np.where(outline, 1.0, _OPACITY) * (regions != void)
    mixed = mosaic.overview + (table[regions] - mosaic.overview) * opacity[..., None]
    return mixed.round().astype(np.uint8)


def draw_mosaics(
    predict: Callable[[str], Mosaic],
    files: Sequence[str],
    output: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    *,
    kind: str | None = None,
    note: str = "",
    on_error: Callable[[str, Exception], None] | None = None,
) -> list[Path]:
    """Predict images in tiles, and write pictures, a page that shows them, and the results.

    Args:
        predict: returns the mosaic of a file.
        files: images of any size.
        output: folder; made if it is missing.
        metadata: names, ids and colours of the classes.
        kind: what is drawn, one of `KINDS`; the richest by default.
        note: text for the head of the page.
        on_error: is called for images that cannot be read, which are left out; without it, the
            first of them is an error.

    Returns:
        the page, `index.html`, and the json files of the results; see `MosaicFiles`.

    Raises:
        UserError, OSError: the kind is not there, or the folder cannot be written.
    """
    sheet = ContactSheet(output, "Mask2Former", ["Input", "Prediction"])
    results = MosaicFiles(output, metadata)
    for file in files:
        try:
            mosaic = predict(file)
        except (OSError, UserError) as error:
            if on_error is None or is_disk_full(error):
                raise
            on_error(file, error)
            continue
        with mosaic:
            pictures = {"Input": mosaic.overview, "Prediction": picture(mosaic, metadata, kind)}
            results.add_mosaic(file, mosaic)
        sheet.add(Path(file).stem, pictures)
    return [sheet.write(note), *results.write()]


def _every(bands: Iterator[np.ndarray], step: int) -> Iterator[np.ndarray]:
    """Yield every `step`-th row and column of bands, counted over all of them."""
    row = 0
    for band in bands:
        yield band[-row % step :: step, ::step]
        row += len(band)
