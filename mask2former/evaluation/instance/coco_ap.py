"""Average precision by COCO's procedure, over boxes, masks, mask boundaries or video tubes."""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ...annotations.parts.fields import id_key
from ...annotations.readers.instances import Annotations, read_instances
from ...errors import UserError
from ...formats.json_files import (
    require_box,
    require_id,
    require_keys,
    require_list,
    require_number,
)
from ...formats.rle import RLE, area, decode, encode_masks
from ...formats.segmentations import compress, describe, error_prefix
from ..details import precision_curves

DILATION_RATIO = 0.02  # of the image's diagonal; the paper's choice for COCO-sized images


def boundary_width(height: int, width: int, dilation_ratio: float = DILATION_RATIO) -> int:
    """Return the paper's distance d in pixels: a fraction of the image's diagonal, at least one."""
    return max(1, round(dilation_ratio * float(np.hypot(height, width))))


def boundary_region(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of a mask that lie within ``width`` of its contour.

    The contour runs along the image's border too, where the mask reaches it. Distance is counted
    as in the authors' evaluation, by erosion with squares.

    Args:
        mask: (H, W) bool.
        width: in pixels, at least 1.

    Returns:
        (H, W) bool.
    """
    region = mask.copy()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return region
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = cv2.erode(
        np.ascontiguousarray(mask[box], np.uint8),
        kernel,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    region[box] &= inside == 0
    return region


Annotation = dict[str, Any]
PairwiseIoU = Callable[[list[Annotation], list[Annotation]], np.ndarray]


def coco_average_precision(
    dataset: Mapping[str, Any] | Annotations,
    results: Sequence[Mapping[str, Any]],
    iou_type: str = "segm",
    *,
    fast: bool | None = None,
    dilation_ratio: float = DILATION_RATIO,
    max_detections: int = 100,
    curves: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Compute the average precision of detections on images.

    Args:
        dataset: COCO instance json: ``images``, ``categories`` and ``annotations``; or what
            `read_instances` made of one. Objects that cannot be used are left out.
        results: ``{"image_id", "category_id", "score"}`` with ``"bbox"`` (x, y, width, height in
            pixels) or ``"segmentation"`` (RLE), in the ids of the dataset.
        iou_type: "bbox"; "segm"; or "boundary", the smaller of mask IoU and boundary IoU (Cheng et
            al., CVPR 2021).
        fast: use faster-coco-eval, which gives the same numbers as pycocotools; None uses it where
            it is installed. Boundaries always go through pycocotools.
        dilation_ratio: width of the boundary as a fraction of the image's diagonal.
        max_detections: of an image that count, those of the best scores. COCO counts 100; where
            this is more, the AP of 100 is given too, as "AP@100".
        curves: gets what `precision_curves` returns.

    Returns:
        percent, NaN where the dataset has nothing to find: AP, AP50, AP75 and AP{s,m,l} for areas
        up to 32^2, up to 96^2 and above; AR{1,10,100} and AR{s,m,l}; AP-<class>.

    Raises:
        UserError: the dataset is refused (see ``annotations.POLICY``), or a result is about an
            image or a category that it lacks, or its box or mask is missing or does not fit.
    """
    if iou_type not in ("bbox", "segm", "boundary"):
        raise ValueError(f"iou_type: expected 'bbox', 'segm' or 'boundary', got {iou_type!r}")
    by_mask = iou_type != "bbox"
    if not isinstance(dataset, Annotations):
        dataset = read_instances(dataset, need_masks=by_mask)
    dataset.findings.raise_refused()
    content = dataset.content
    require_keys(content, ("images", "categories", "annotations"))
    images = _renumber_images(content["images"])
    gt = dict(content, images=list(images.values()))
    gt["annotations"] = [
        _ground_truth(ann, i, images, by_mask) for i, ann in enumerate(content["annotations"])
    ]
    categories = {category["id"] for category in content["categories"]}
    require_list(results, "results")
    dt = dict(gt)
    dt["annotations"] = [
        _detection(result, i, images, categories, by_mask) for i, result in enumerate(results)
    ]
    if fast is None:
        fast = importlib.util.find_spec("faster_coco_eval") is not None
    if iou_type == "boundary":
        ratio = partial(boundary_iou, dilation_ratio=dilation_ratio)
        evaluation = PairwiseEval(index_coco(gt), index_coco(dt), ratio)
    elif fast:
        evaluation = _fast_evaluation(gt, dt, iou_type)
    else:
        evaluation = COCOeval(index_coco(gt), index_coco(dt), iou_type)
    if max_detections > 100:
        evaluation.params.maxDets = [*evaluation.params.maxDets, max_detections]
    scores = average_precision(evaluation)
    if curves is not None:
        curves |= precision_curves(evaluation)
    return scores


class PairwiseEval(COCOeval):
    """COCO's matching and counting over an IoU of our own.

    Args:
        gt, dt: ground truth and detections.
        pairwise_iou: maps D detections and G annotations to their IoU, (D, G).
    """

    def __init__(self, gt: COCO, dt: COCO, pairwise_iou: PairwiseIoU):
        super().__init__(gt, dt, "segm")
        self._pairwise_iou = pairwise_iou

    def computeIoU(self, imgId: Any, catId: int) -> Any:
        gts, dts = self._gts[imgId, catId], self._dts[imgId, catId]
        if not gts or not dts:
            return []
        order = np.argsort([-d["score"] for d in dts], kind="mergesort")
        return self._pairwise_iou([dts[i] for i in order[: self.params.maxDets[-1]]], gts)


def boundary_iou(
    dts: list[Annotation], gts: list[Annotation], dilation_ratio: float = DILATION_RATIO
) -> np.ndarray:
    """Return the smaller of mask and boundary IoU of each pair, (D, G); crowds as COCO has them."""
    crowd = [int(g["iscrowd"]) for g in gts]
    masks = [[a["segmentation"] for a in annotations] for annotations in (dts, gts)]
    boundaries = [[_boundary(rle, dilation_ratio) for rle in rles] for rles in masks]
    return np.minimum(mask_util.iou(*masks, crowd), mask_util.iou(*boundaries, crowd))


def average_precision(evaluation: Any) -> dict[str, float]:
    """Run an evaluation of pycocotools' form and read its tables.

    Returns:
        what ``coco_average_precision`` returns.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation.evaluate()
        evaluation.accumulate()
    params = evaluation.params
    precision = evaluation.eval["precision"]  # IoU threshold, recall, class, area, detections
    recall = evaluation.eval["recall"]  # IoU threshold, class, area, detections
    at = {round(100 * t): i for i, t in enumerate(params.iouThrs)}
    result = {"AP": precision[:, :, :, 0, -1]}
    if len(params.maxDets) > 3:
        result["AP@100"] = precision[:, :, :, 0, 2]
    result |= {f"AP{percent}": precision[at[percent], :, :, 0, -1] for percent in (50, 75)}
    result |= {f"AP{size}": precision[:, :, :, i, -1] for i, size in enumerate("sml", start=1)}
    result |= {f"AR{count}": recall[:, :, 0, i] for i, count in enumerate(params.maxDets)}
    result |= {f"AR{size}": recall[:, :, i, -1] for i, size in enumerate("sml", start=1)}
    names = {
        category["id"]: category["name"] for category in evaluation.cocoGt.dataset["categories"]
    }
    result |= {f"AP-{names[c]}": precision[:, :, k, 0, -1] for k, c in enumerate(params.catIds)}
    return {name: _mean_percent(values) for name, values in result.items()}


def index_coco(dataset: Mapping[str, Any]) -> COCO:
    """Return pycocotools' view of a dataset that is in memory already.

    Categories are counted in their order: pycocotools sorts ids, which may be text and numbers.
    """
    coco = COCO()
    coco.dataset = dict(dataset)
    numbers = {c["id"]: i for i, c in enumerate(dataset["categories"], start=1)}
    coco.dataset["categories"] = [{**c, "id": numbers[c["id"]]} for c in dataset["categories"]]
    coco.dataset["annotations"] = [
        # pycocotools takes id 0 for "no match", so all are counted from 1
        {**ann, "id": i, "category_id": numbers[ann["category_id"]]}
        for i, ann in enumerate(dataset["annotations"], start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _renumber_images(images: Sequence[Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Return images by id, numbered in that order: ids may be text, which not all tools take."""
    return {id_key(image["id"]): {**image, "id": i} for i, image in enumerate(images, start=1)}


def _ground_truth(
    ann: Mapping[str, Any], index: int, images: Mapping[Any, Mapping[str, Any]], by_mask: bool
) -> Annotation:
    image = images[id_key(ann["image_id"])]
    new = {**ann, "image_id": image["id"]}
    mask = new.pop("segmentation", None)  # boxes are scored without a look at it
    if by_mask or "area" not in ann:
        with error_prefix(f"ground truth: {describe(ann, index)}, image {ann['image_id']}"):
            mask = compress(mask, *_size(image))
        new.setdefault("area", float(area(mask)))
    return new | {"segmentation": mask} if by_mask else new


def _size(image: Mapping[str, Any]) -> tuple[int, int]:
    if "height" not in image:
        raise UserError("its image has no height and width, and its file cannot be read")
    return image["height"], image["width"]


def _detection(
    result: Mapping[str, Any],
    index: int,
    images: Mapping[Any, Mapping[str, Any]],
    categories: set[int],
    by_mask: bool,
) -> Annotation:
    wanted = "segmentation" if by_mask else "bbox"
    try:
        require_keys(result, ("image_id", "category_id", "score", wanted))
    except UserError as error:
        raise UserError(f"results: {error}, in {result!r:.200}") from error
    with error_prefix(f"results: entry {index}"):
        require_number(result["score"], "score")
        if not by_mask:
            require_box(result["bbox"], "bbox")
        for key in ("image_id", "category_id"):
            require_id(result[key], key)
    image = images.get(id_key(result["image_id"]))
    if image is None:
        raise UserError(f"results: image id {result['image_id']} is not in the ground truth")
    if result["category_id"] not in categories:
        raise UserError(
            f"results: image {result['image_id']} has category id {result['category_id']}, which "
            "is not in the ground truth"
        )
    new = {key: result[key] for key in ("category_id", "score", wanted)}
    new |= {"image_id": image["id"], "iscrowd": 0}
    if by_mask:
        with error_prefix(f"results: image {result['image_id']}"):
            mask = compress(result["segmentation"], *_size(image))
        # The area by which a detection counts as small is that of its mask, not of its box.
        return new | {"segmentation": mask, "area": float(area(mask))}
    return new | {"area": float(result["bbox"][2] * result["bbox"][3])}


def _fast_evaluation(gt: Mapping[str, Any], dt: Mapping[str, Any], iou_type: str) -> Any:
    import faster_coco_eval

    views = [faster_coco_eval.COCO(dict(index_coco(dataset).dataset)) for dataset in (gt, dt)]
    return faster_coco_eval.COCOeval_faster(
        *views, iou_type, print_function=lambda *args, **kwargs: None
    )


def _boundary(rle: RLE, dilation_ratio: float) -> dict[str, Any]:
    mask = decode(rle).view(bool)
    height, width = mask.shape
    distance = boundary_width(height, width, dilation_ratio)
    return encode_masks(boundary_region(mask, distance)[None])[0]


def _mean_percent(values: np.ndarray) -> float:
    values = values[values > -1]  # -1 marks what the ground truth has none of
    return 100 * float(values.mean()) if values.size else float("nan")
