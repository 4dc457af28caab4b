"""Videos in a job: their objects as YouTube-VIS results, and drawings."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...formats.rle import RLE, encode_masks, encode_segments
from ...formats.video.reading import Frame, open_source
from ...formats.video.writing import open_writer
from ...results.files import Categories
from ...visualization import draw
from ..video import VideoPredictor
from .encoding import line
from .items import Item
from .settings import DRAWINGS, PARQUET, TRACKS, Settings


class UnreadableVideoError(UserError):
    """A video that cannot be opened, or not to its end."""


def predict_video(
    item: Item, predictor: VideoPredictor, settings: Settings, root: Path, part: Path
) -> list[str]:
    """Return the lines of a video's results and write its drawing.

    Memory holds the objects of the video as RLE.

    Args:
        item: a video.
        root: where relative paths of items start.
        part: folder of the shard's files.

    Raises:
        UnreadableVideoError: it cannot be read to its end.
        OSError: the drawing cannot be written.
        ImportError: PyAV is missing.
    """
    with _reading():
        source = open_source(str(root / item.path), "skip" if settings.skip_damaged else "stop")
    ahead, behind = tee(_readable(source))
    frames = zip(behind, predictor(frame.image for frame in ahead))
    objects = _Objects(item, Categories(predictor.metadata))
    writer = None
    try:
        if DRAWINGS in settings.outputs:
            target = part / DRAWINGS / f"{item.name}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = open_writer(target, source.rate)
        for frame, prediction in frames:
            objects.add(prediction)
            if writer is not None:
                kind = settings.kind if not predictor.is_video_model else None
                drawn = (frame.image, prediction, predictor.metadata, kind)
                writer.write(draw(*drawn, settings.label_threshold, tracked=True), frame)
    finally:
        if writer is not None:
            writer.close()
    if not {TRACKS, PARQUET} & set(settings.outputs):
        return []
    return [line(TRACKS, entry) for entry in objects.entries(predictor.is_video_model)]


class _Objects:
    """The objects of one video, frame by frame."""

    def __init__(self, item: Item, categories: Categories):
        self._head = {"video_id": item.id, "file_name": item.file_name}
        self._categories = categories
        self._tracks: dict[int, dict[str, Any]] = {}
        self._frames = 0

    def add(self, prediction: Mapping[str, Any]) -> None:
        """Take in the next frame, as `VideoPredictor` yields it."""
        for number, label, score, mask in _objects_of(prediction):
            track = self._tracks.setdefault(number, {"scores": [], "masks": {}})
            track["label"] = label
            track["scores"].append(score)
            track["masks"][self._frames] = mask
        self._frames += 1

    def entries(self, last: bool) -> Iterator[dict[str, Any]]:
        """Yield the results.

        Args:
            last: the last score of an object is that of all of it; else the mean of all is.
        """
        for number, track in sorted(self._tracks.items()):
            scores = track["scores"]
            yield self._head | {
                "track_id": number,
                "score": scores[-1] if last else sum(scores) / len(scores),
                "category_id": self._categories.id(track["label"], True),
                "segmentations": [track["masks"].get(t) for t in range(self._frames)],
            }


def _objects_of(prediction: Mapping[str, Any]) -> Iterator[tuple[int, int, float, RLE]]:
    """Yield track, class, score and mask of the objects of a frame; of panoptic segments things."""
    if "instances" in prediction:
        instances = prediction["instances"].to("cpu")
        columns = (instances.track_ids, instances.pred_classes, instances.scores)
        yield from zip(*(c.tolist() for c in columns), encode_masks(instances.pred_masks))
    elif "panoptic_seg" in prediction:
        ids, segments = prediction["panoptic_seg"]
        things = [segment for segment in segments if segment["isthing"]]
        masks = encode_segments(ids.cpu().numpy(), [segment["id"] for segment in things])
        for segment, mask in zip(things, masks):
            yield segment["id"], segment["category_id"], 1.0, mask


def _readable(source: Iterable[Frame]) -> Iterator[Frame]:
    with _reading():
        yield from source


@contextmanager
def _reading() -> Iterator[None]:
    """Tell errors of reading a video from those of what is done with it."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UnreadableVideoError(str(error)) from error
