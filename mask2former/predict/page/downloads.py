"""What a page shows, as files to take along."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...formats.images import write_image
from ...formats.json_files import write_json
from ...formats.names import short_name
from ...painting import paint
from ...results.files import PredictionFiles
from ...results.segments import Segments, reduced


def segments_json(segments: Segments) -> dict[str, list[dict[str, Any]]]:
    """Return segments as json has them, by kind; see `Segment.to_json`."""
    return {kind: [segment.to_json() for segment in some] for kind, some in segments.items()}


def write_downloads(
    folder: Path,
    name: str,
    image: np.ndarray,
    prediction: Mapping[str, Any],
    segments: Segments,
    metadata: Mapping[str, Any],
    threshold: float = 0.0,
) -> list[Path]:
    """Write the files of an image with some of its segments.

    They are `segments.json`, with an RLE of each segment; COCO's results as `PredictionFiles`
    writes them, `instances.json`, `panoptic.json` with its PNG and `semantic.json`; and a picture
    of each kind.

    Args:
        folder: an empty one.
        name: of the image's file.
        image: (H, W, 3), uint8, RGB.
        segments: of the prediction, see `segments_of`.
        threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
    """
    stem = short_name(Path(name).stem, 20)
    written = [folder / f"{stem}_segments.json"]
    write_json(written[0], {"file_name": name, **segments_json(segments)})
    results = PredictionFiles(folder, metadata)
    results.add(name, reduced(prediction, segments, threshold))
    written += results.write()
    written += sorted((folder / "panoptic").glob("*.png"))
    for kind, some in segments.items():
        written.append(folder / f"{stem}_{kind}.png")
        write_image(written[-1], paint(image, [segment.region for segment in some]))
    return written
