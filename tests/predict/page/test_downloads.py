"""The files that a page makes, and its picture of segments as SVG."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mask2former.formats.images import read_image
from mask2former.formats.label_maps import read_panoptic_png
from mask2former.predict.page.downloads import segments_json, write_downloads
from mask2former.predict.page.overlay import overlay
from mask2former.results.segments import Segment, only, segments_of
from tests.results.test_segments import IDS, METADATA, prediction

IMAGE = np.full((3, 4, 3), 90, np.uint8)


def test_files(tmp_path: Path) -> None:
    predicted = prediction()
    on = {"panoptic": {1}, "instance": {2}, "semantic": {0, 1}}
    segments = only(segments_of(predicted, METADATA), on)
    paths = write_downloads(tmp_path, "a.jpg", IMAGE, predicted, segments, METADATA)
    names = {path.relative_to(tmp_path).as_posix() for path in paths}
    drawn = {f"a_{kind}.png" for kind in ("panoptic", "instance", "semantic")}
    coco = {"instances.json", "panoptic.json", "semantic.json", "panoptic/000001.png"}
    assert names == {"a_segments.json"} | drawn | coco

    saved = json.loads((tmp_path / "a_segments.json").read_text())
    assert saved["file_name"] == "a.jpg"
    (cat,) = saved["instance"]
    assert (cat["id"], cat["category"], cat["area"], cat["bbox"]) == (2, "cat", 8, [0, 0, 4, 3])
    assert coco_mask.decode(cat["segmentation"]).tolist() == (IDS == 1).astype(int).tolist()
    assert [s["id"] for s in saved["panoptic"]] == [1] and len(saved["semantic"]) == 2
    assert saved["instance"] == segments_json(segments)["instance"]

    results = json.loads((tmp_path / "instances.json").read_text())
    assert [(r["category_id"], r["score"]) for r in results] == [(7, 0.25)]
    (annotation,) = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    assert [(s["category_id"], s["area"]) for s in annotation["segments_info"]] == [(7, 8)]
    png = read_panoptic_png(tmp_path / "panoptic" / "000001.png")
    assert png.tolist() == np.where(IDS == 1, 1, 0).tolist()
    picture = read_image(tmp_path / "a_panoptic.png")
    times = picture.shape[0] // 3
    corner = picture[times // 2, -1 - times // 2]  # of the sky, which is off
    assert corner.tolist() == [90, 90, 90]


def test_svg_covers_the_pixels_and_is_escaped() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:15, 3:25] = True
    mask[6:9, 8:14] = False  # a hole
    mask[17, 28] = True  # a single pixel
    segment = Segment(5, "<script>", 0.5, mask, int(mask.sum()), np.array([1.0, 0.5, 0.0]))
    svg = overlay(np.zeros((20, 30, 3), np.uint8), [segment])
    assert "<title>&lt;script&gt; 50%, 269 px</title>" in svg and "<script>" not in svg
    assert 'viewBox="0 0 30 20"' in svg and 'fill="rgb(255,128,0)"' in svg
    (data,) = re.findall(r' d="([^"]+)"', svg)
    rings = [
        np.array([point.split() for point in ring.split("L")], float)
        for ring in data.replace("Z", "").split("M")[1:]
    ]
    drawn = np.zeros((160, 240), np.uint8)  # 8 times as large
    for ring in rings:
        once = np.zeros_like(drawn)
        cv2.fillPoly(once, [np.round(ring * 8).astype(np.int32)], 1)
        drawn ^= once
    centres = drawn[4::8, 4::8].astype(bool)
    assert (centres == mask).all()


def test_large_photos_are_shown_smaller() -> None:
    large = np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), np.uint8)
    svg = overlay(large, [])
    assert 'viewBox="0 0 3000 1500"' in svg and len(svg) < 1_000_000
