"""Tiles beside SAHI's slices on a mosaic: `python -m benchmarks.mosaic --weights model.pth`.

Pictures of the shapes dataset lie side by side in one image, which the quick start's model predicts
whole, in tiles that are joined, and, where SAHI is installed, slice by slice.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# isort: off
import mask2former  # noqa: F401 (before torch is loaded, as in all scripts)

# isort: on
import numpy as np
import pycocotools.mask as mask_util

from mask2former.data.synthetic import write_shapes
from mask2former.errors import MissingPackageError
from mask2former.evaluation.instance.coco_ap import coco_average_precision
from mask2former.evaluation.panoptic.quality import PanopticQuality
from mask2former.formats.images import read_image
from mask2former.formats.label_maps import read_panoptic_png
from mask2former.formats.rle import encode_masks, encode_segments
from mask2former.predict import Predictor
from mask2former.predict.configs import predict_config
from mask2former.predict.tiled import TiledPredictor
from mask2former.results.files import Categories

CONFIG = "configs/shapes/panoptic/maskformer2_lite0.yaml"
SIDE = 128  # of a picture
SAHI_FROM = (0.3, 0.02)  # scores: SAHI's default, and low, from where it suppresses only

Entry = dict[str, Any]


class Truth(NamedTuple):
    """Image (H, W, 3), ids of the segments (H, W), segments and categories as in COCO panoptic."""

    image: np.ndarray
    ids: np.ndarray
    segments: list[Entry]
    categories: list[Entry]


class Result(NamedTuple):
    """What one way predicts: ids with segments, where it has them, and COCO instances."""

    ids: np.ndarray | None
    segments: list[Entry]
    instances: list[Entry]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mosaic", description=__doc__)
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--weights", default="output/demo/model_final.pth")
    parser.add_argument("--pictures", type=int, default=16, help="a side; 16 are 2048 pixels")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--tile-overlap", type=int, default=32)
    parser.add_argument("--seed", type=int, default=77)
    return parser.parse_args()


def draw(side: int, seed: int) -> Truth:
    """Draw ``side`` squared pictures as one image; stuff of a class is one segment of it."""
    size = side * SIDE
    image, ids = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.int32)
    segments: list[Entry] = []
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(Path(folder), seed=seed, train=1, val=side**2, size=SIDE, workers=1)
        root = Path(folder, "shapes")
        content = json.loads((root / "annotations/panoptic_val.json").read_text())
        categories = content["categories"]
        things = {c["id"] for c in categories if c["isthing"]}
        stuff: dict[int, int] = {}
        for k, annotation in enumerate(content["annotations"]):
            place = tuple(slice(n * SIDE, (n + 1) * SIDE) for n in divmod(k, side))
            name = annotation["file_name"]
            image[place] = read_image(str(root / "images/val" / Path(name).with_suffix(".jpg")))
            drawn = read_panoptic_png(root / "panoptic_val" / name)
            for segment in annotation["segments_info"]:
                category = segment["category_id"]
                new = len(segments) + 1
                number = new if category in things else stuff.setdefault(category, new)
                if number == new:
                    segments.append({"id": number, "category_id": category})
                ids[place][drawn == segment["id"]] = number
    return Truth(image, ids, segments, categories)


def whole(predictor: Predictor, image: np.ndarray) -> Result:
    """Predict the image as one."""
    output, known = predictor(image), Categories(predictor.metadata)
    ids, found = output["panoptic_seg"]
    segments = _segments(found, known)
    instances = output["instances"]
    columns = (
        encode_masks(instances.pred_masks),
        instances.scores.tolist(),
        instances.pred_classes.tolist(),
    )
    entries = [_instance(rle, score, known.id(label, True)) for rle, score, label in zip(*columns)]
    return Result(ids.numpy(), segments, entries)


def in_tiles(predictor: TiledPredictor, image: np.ndarray) -> Result:
    """Predict the image in tiles that are joined."""
    found, known = predictor(image), Categories(predictor.metadata)
    entries = [_instance(i.rle, i.score, known.id(i.label, True)) for i in found.instances()]
    ids = np.concatenate(list(found.panoptic()))
    return Result(ids, _segments(found.segments, known), entries)


def in_slices(predictor: Predictor, image: np.ndarray, args: Any, least_score: float) -> Result:
    """Predict instances slice by slice, joined by SAHI.

    Raises:
        MissingPackageError: SAHI is not installed.
    """
    from mask2former.integrations.sahi import Mask2FormerDetectionModel

    # isort: split
    from sahi.predict import get_sliced_prediction

    model = Mask2FormerDetectionModel(model=predictor, confidence_threshold=least_score)
    share, known = args.tile_overlap / args.tile, Categories(predictor.metadata)
    sides = {"slice_height": args.tile, "slice_width": args.tile}
    shares = {"overlap_height_ratio": share, "overlap_width_ratio": share}
    found = get_sliced_prediction(
        image, model, **sides, **shares, perform_standard_pred=False, verbose=0
    )
    entries = []
    for prediction in found.object_prediction_list:
        polygons = [p for p in prediction.mask.segmentation if len(p) >= 6]
        if polygons:
            rle = mask_util.merge(mask_util.frPyObjects(polygons, *image.shape[:2]))
            category = known.id(prediction.category.id, True)
            entries.append(_instance(rle, float(prediction.score.value), category))
    return Result(None, [], entries)


def _segments(found: Iterable[Entry], known: Categories) -> list[Entry]:
    """Return segments of a model with the ids of their categories."""
    return [{"id": s["id"], "category_id": known.id(s["category_id"], s["isthing"])} for s in found]


def _instance(rle: Any, score: float, category: int) -> Entry:
    return {"image_id": 1, "category_id": category, "score": score, "segmentation": rle}


def scores(truth: Truth, result: Result) -> tuple[float, float]:
    """Return PQ (NaN where there are no segments) and AP of all instances, in percent."""
    height, width = truth.ids.shape
    things = [c for c in truth.categories if c["isthing"]]
    known = {c["id"] for c in things}
    objects = [s for s in truth.segments if s["category_id"] in known]
    rles = encode_segments(truth.ids, [s["id"] for s in objects])
    dataset = {
        "images": [{"id": 1, "height": height, "width": width}],
        "categories": things,
        "annotations": [
            s | {"image_id": 1, "segmentation": rle, "iscrowd": 0}
            for s, rle in zip(objects, rles, strict=True)
        ],
    }
    most = max(101, len(result.instances))
    average = coco_average_precision(dataset, result.instances, max_detections=most)["AP"]
    if result.ids is None:
        return float("nan"), average
    quality = PanopticQuality(truth.categories)
    quality.add_image(truth.ids, truth.segments, result.ids, result.segments)
    return 100 * quality.summary()["All"]["pq"], average


def ways(args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield each way by name, as a function of the image."""

    def config(*opts: Any) -> Any:
        return predict_config(args.config_file, ["MODEL.WEIGHTS", args.weights, *opts])

    size = args.pictures * SIDE
    large = config("INPUT.MIN_SIZE_TEST", size, "INPUT.MAX_SIZE_TEST", size)
    plain: dict[str, Any] = {"array_format": "RGB"}
    tiles = {"tile": args.tile, "overlap": args.tile_overlap}
    yield "as one image", lambda image: whole(Predictor(large, **plain), image)
    yield "in tiles", lambda image: in_tiles(TiledPredictor(config(), **tiles, **plain), image)
    for least in SAHI_FROM:
        yield (
            f"SAHI, scores from {least}",
            lambda image, least=least: in_slices(Predictor(config(), **plain), image, args, least),
        )


def main() -> None:
    """Print a row for each way as it is measured."""
    args = parse()
    truth = draw(args.pictures, args.seed)
    print("| what | PQ | AP | instances | seconds |\n|---|---|---|---|---|", flush=True)
    for name, predict in ways(args):
        start = time.perf_counter()
        try:
            result = predict(truth.image)
        except MissingPackageError as error:
            print(f"{name}: {error}")
            break
        took = time.perf_counter() - start
        quality, average = scores(truth, result)
        shown = "" if result.ids is None else f"{quality:.1f}"
        count = len(result.instances)
        print(f"| {name} | {shown} | {average:.1f} | {count} | {took:.1f} |", flush=True)


if __name__ == "__main__":
    main()
