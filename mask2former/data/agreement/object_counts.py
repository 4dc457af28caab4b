"""Compare the number of objects in images with what a model and its scores allow for."""

from collections.abc import Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode

from ...annotations.findings import Findings

Record = Mapping[str, Any]

_NEAR = 0.8


def compare_with_queries(cfg: CfgNode, records: Iterable[Record], findings: Findings) -> None:
    """Add a finding where images have more objects than the model has queries, or nearly so many.

    Near is what one of a hundred images has, if that is four fifths of the queries or more.
    """
    queries = cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES
    counts = sorted(map(count_targets, records))
    above = sum(count > queries for count in counts)
    if above:
        code = "more-objects-than-queries"
        findings.add(code, most=counts[-1], count=above, queries=queries)
        return
    usual = counts[-1 - len(counts) // 100] if counts else 0
    if usual >= _NEAR * queries:
        findings.add("objects-near-queries", usual=usual, queries=queries, enough=2 * usual)


def compare_with_detections(cfg: CfgNode, records: Iterable[Record], findings: Findings) -> None:
    """Add a finding where images have more objects than results of an image are scored."""
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    most = max(map(count_targets, records), default=0)
    if most > limit:
        findings.add("more-objects-than-detections", most=most, limit=limit)


def count_targets(record: Record) -> int:
    """Return the number of objects or segments of a record that are no crowd."""
    items = record.get("annotations") or record.get("segments_info") or ()
    return sum(not item.get("iscrowd", 0) for item in items)
