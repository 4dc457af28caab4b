"""What an exported file says about its model: `runtime.metadata.Metadata` of config and model."""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import Metadata as DatasetMetadata

from ..classes import Classes
from ..runtime.metadata import EMBEDDINGS, Metadata
from .graphs import Graph

LICENSE = (
    "The weights are under the licence that they came with; the code that made this file is MIT."
)
_PACKAGES = ("mask2former", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def describe(
    graph: Graph, cfg: CfgNode, dataset: DatasetMetadata | None, postprocess: str = ""
) -> Metadata:
    """Return the metadata of a file that a graph is exported to.

    Args:
        graph: of the model.
        cfg: the config of the model: sizes, channel order, thresholds.
        dataset: metadata with the names of the classes; numbers stand for them where it has none.
        postprocess: what is made of the logits in the graph, "" for nothing.
    """
    model, test = graph.model, cfg.MODEL.MASK_FORMER.TEST
    classes = _classes(cfg, dataset, model.sem_seg_head.num_classes)
    return Metadata(
        kind=graph.kind,
        class_names=classes.names,
        channel_order=cfg.INPUT.FORMAT,
        pixel_mean=tuple(model.pixel_mean.flatten().tolist()),
        pixel_std=tuple(model.pixel_std.flatten().tolist()),
        size_divisibility=graph.divisibility,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        thing_ids=classes.thing_ids,
        colors=classes.colors,
        thing_categories=_categories(dataset, "thing", len(classes.names)),
        stuff_categories=_categories(dataset, "stuff", len(classes.names)),
        postprocess=postprocess,
        max_pixels=max(0, cfg.INPUT.MAX_PIXELS),
        exif_rotation=cfg.INPUT.EXIF_ROTATION,
        window=test.VIDEO_WINDOW if graph.kind == "clip" else 0,
        window_overlap=test.VIDEO_OVERLAP if graph.kind == "clip" else 0,
        embeddings=EMBEDDINGS in graph.output_names,
        mask_quality=test.VIDEO_MASK_QUALITY,
        duplicate_iou=test.VIDEO_DUPLICATE_IOU,
        config=cfg.MODEL.META_ARCHITECTURE,
        weights_sha256=_sha256(cfg.MODEL.WEIGHTS),
        versions=_versions(),
        license=LICENSE,
        **_merging(graph),
    )


def _merging(graph: Graph) -> dict:
    """Return switches and thresholds, as the model has them."""
    model = graph.model
    if graph.kind == "per_pixel":
        return {"semantic_on": True, "resize_before_merge": False}
    if graph.kind == "clip":
        return {"instance_on": True}
    return {
        "semantic_on": model.semantic_on,
        "semantic_output": model.semantic_output,
        "panoptic_on": model.panoptic_on,
        "instance_on": model.instance_on,
        "object_mask_threshold": float(model.object_mask_threshold),
        "overlap_threshold": float(model.overlap_threshold),
        "topk": model.test_topk_per_image,
        "resize_before_merge": bool(model.sem_seg_postprocess_before_inference),
    }


def _classes(cfg: CfgNode, dataset: DatasetMetadata | None, count: int) -> Classes:
    """Return the K classes: the config's, else the dataset's, else numbers."""
    if (found := Classes.from_config(cfg)) is not None and len(found.names) == count:
        return found
    for kind in ("stuff", "thing"):
        names = dataset.get(f"{kind}_classes") if dataset is not None else None
        if names and len(names) == count:
            return Classes.from_metadata(dataset, names)
    ids = (dataset.get("thing_dataset_id_to_contiguous_id") or {}) if dataset is not None else {}
    things = tuple(sorted(i for i in set(ids.values()) if i < count))
    return Classes(tuple(map(str, range(count))), things)


def _categories(
    dataset: DatasetMetadata | None, kind: str, count: int
) -> tuple[tuple[int, int], ...]:
    """Return pairs of a dataset's category ids and positions; () where these are the same."""
    key = f"{kind}_dataset_id_to_contiguous_id"
    ids = (dataset.get(key) or {}) if dataset is not None else {}
    if not ids and kind == "stuff" and dataset is not None:  # a semantic dataset has labels
        ids = {label: k for k, label in enumerate(dataset.get("sem_seg_labels") or [])}
    pairs = tuple((int(k), int(v)) for k, v in ids.items() if int(v) < count)
    return () if all(k == v for k, v in pairs) else pairs


def _sha256(weights: str) -> str:
    """Return the SHA-256 of a file of weights; "" where there is none here."""
    path = Path(os.fspath(weights)) if weights else None
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    """Return the versions of what exports, by name."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
