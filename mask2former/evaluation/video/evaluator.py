"""Video instance segmentation: average precision of mask tubes over whole clips.

The measure is that of Yang et al., "Video Instance Segmentation" (ICCV 2019), section 3: COCO's
procedure with the IoU of tubes, which is intersection over union summed over frames. That equals
the IoU of masks when the frames of a video are laid side by side as one wide image; so each tube
becomes one mask, and pycocotools does the rest.
"""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...annotations.registered import read_registered_videos
from ...formats.json_files import (
    write_json_list,
)
from ...formats.rle import concatenate_frames
from ...overrides import replaceable
from ..common import DatasetIds, gather, refuse_coco_overrides
from ..instance.coco_ap import Annotation, PairwiseEval, average_precision, index_coco
from ..results import results_of_clip, results_table
from .tubes import Json, Truth, Tube, frame_size, num_frames, read_tubes

logger = logging.getLogger(__name__)

_AREA_BOUNDS = (0, 128**2, 256**2, 1e5**2)  # small, medium, large tubes: pixels in a frame
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10")


def evaluate_ytvis(gt_json: Truth, results_json: Json) -> dict[str, float]:
    """Compute the average precision of video instances.

    Args:
        gt_json: YouTube-VIS json, its path, or what `read_videos` made of one: ``videos`` (id,
            height, width, file_names or length), ``categories``, and ``annotations`` (video_id,
            category_id, iscrowd, and a list of one RLE, polygon list or None a frame in
            ``segmentations``; ``areas`` likewise). Objects that cannot be used are left out.
        results_json: list, or its path, of ``{"video_id", "category_id", "score",
            "segmentations"}`` with one RLE or None a frame.

    Returns:
        percent, NaN where there is nothing to find: AP, AP50, AP75; APs, APm, APl for tubes whose
        mean area over the frames that show them is up to 128^2, up to 256^2 and above; AR1, AR10
        with that many tubes a video; AP-<class>. Objects marked as crowd are neither hits nor
        misses; unlike in COCO their IoU is the plain one.

    Raises:
        FileNotFoundError: no such file.
        UserError: the ground truth has no annotations; a video or category is unknown; a list is
            not as long as its video; a mask does not fit the frames. Says where.
    """
    gt, *tubes = read_tubes(gt_json, results_json)
    truth, guess = (_as_wide_images(gt, of_file) for of_file in tubes)
    evaluation = PairwiseEval(index_coco(truth), index_coco(guess), _tube_iou)
    low, small, medium, high = _AREA_BOUNDS
    evaluation.params.areaRng = [[low, high], [low, small], [small, medium], [medium, high]]
    scores = average_precision(evaluation)
    return {k: v for k, v in scores.items() if k in _METRICS or k.startswith("AP-")}


class YTVISEvaluator(DatasetEvaluator):
    """AP and AR of video instances, in percent (see ``evaluate_ytvis``), and the submission file.

    Gathers over processes, which must all call ``evaluate``.

    Args:
        dataset_name: a dataset with json_file in its metadata.
        tasks: has no effect; where the published evaluator takes the config.
        distributed: False scores what this process saw alone.
        output_dir: where ``results.json`` goes, in YouTube-VIS form; None writes nothing.
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Any = None,
        distributed: bool = True,
        output_dir: str | None = None,
    ):
        refuse_coco_overrides(self, but="_eval_predictions")
        self._name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._distributed = distributed
        self._output_dir = Path(output_dir) if output_dir else None
        self._truth = read_registered_videos(dataset_name)
        self._truth.findings.raise_refused(but=["all-crowd"])
        self._dataset_ids = DatasetIds.of_things(dataset_name, self._truth.categories)

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []  # with contiguous classes
        self._results: dict[str, dict[str, float]] = {}

    def process(
        self,
        inputs: Sequence[Mapping[str, Any]],
        outputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the tubes of a batch of B clips as RLE.

        Args:
            inputs: B dicts with ``video_id``.
            outputs: B dicts, or one where B is 1, of lists over N tubes: ``pred_scores``,
                ``pred_labels`` (contiguous) and ``pred_masks``, each (T, H, W) bool.

        Raises:
            UserError: B inputs with another number of outputs, an unknown class, or a score that
                is no finite number.
        """
        clips = [outputs] if isinstance(outputs, Mapping) else list(outputs)
        if len(clips) != len(inputs):
            raise ValueError(
                f"outputs: expected one for each of {len(inputs)} clips, got {len(clips)}"
            )
        for clip, output in zip(inputs, clips, strict=True):
            results = results_of_clip([clip], output)
            for result in results:
                self._dataset_ids[result["category_id"]]  # which is refused here if it is unknown
            self._predictions += results

    @replaceable
    def evaluate(self) -> dict[str, dict[str, float]]:
        """Score; the results are on the main process, the others get {}.

        Returns:
            ``{"segm": {"AP", ...}}``, and {} where the ground truth has no annotations (as in the
            validation and test sets of YouTube-VIS).
        """
        parts = gather(self._predictions, self._distributed)
        self._results = {}
        if parts:
            self._eval_predictions(list(itertools.chain.from_iterable(parts)))
        return self._results

    def _eval_predictions(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Write results.json, and score into ``_results``, which `evaluate` returns.

        Args:
            predictions: as of `results_of_clip`, of all clips and processes.
        """
        results = [
            {**result, "category_id": self._dataset_ids[result["category_id"]]}
            for result in predictions
        ]
        if self._output_dir:
            write_json_list(self._output_dir / "results.json", results)
        if not self._truth.has_truth:
            logger.info("%s has no annotations: there is no score", self._name)
            return
        self._results = {"segm": evaluate_ytvis(self._truth, results)}
        logger.info("Video instances on %s:\n%s", self._name, results_table(self._results))


def _as_wide_images(gt: Mapping[str, Any], tubes: Iterable[Tube]) -> dict[str, Any]:
    """Return COCO json whose images are the videos of ``gt``, with the tubes as annotations."""
    numbers = {v["id"]: i for i, v in enumerate(gt["videos"], start=1)}
    images = [
        {"id": i, "height": height, "width": width * num_frames(v)}
        for i, v in enumerate(gt["videos"], start=1)
        for height, width in [frame_size(v)]
    ]
    annotations = [
        {
            "image_id": numbers[tube.video["id"]],
            "category_id": tube.entry["category_id"],
            "score": tube.entry.get("score"),
            "iscrowd": tube.entry.get("iscrowd", 0),
            "segmentation": concatenate_frames(
                tube.runs, tube.video["height"], tube.video["width"]
            ),
            "area": float(np.mean(tube.areas() or [0.0])),
        }
        for tube in tubes
    ]
    return {"images": images, "categories": gt["categories"], "annotations": annotations}


def _tube_iou(dts: list[Annotation], gts: list[Annotation]) -> np.ndarray:
    """Return (D, G); crowds get the plain IoU, as in the evaluation of YouTube-VIS."""
    masks = [[a["segmentation"] for a in annotations] for annotations in (dts, gts)]
    return mask_util.iou(*masks, [0] * len(gts))
