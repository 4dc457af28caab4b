"""Masks in the forms in which tools write them."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from mask2former.annotations import Findings
from mask2former.annotations.parts.masks import MaskReader, usable_box

HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]
POINTS = [{"x": x, "y": y} for x, y in ((2, 2), (9, 2), (9, 9), (2, 9))]


def bitmap(columns: slice = slice(2, 9)) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:9, columns] = 1
    return mask


def rle(columns: slice) -> dict:
    found = mask_util.encode(np.asfortranarray(bitmap(columns)))
    return {"size": [HEIGHT, WIDTH], "counts": found["counts"].decode()}


def read(value, size=(HEIGHT, WIDTH)):
    """Return the pixels of the mask, None where there is none, and the codes of the findings."""
    findings = Findings("a.json")
    annotation = {"segmentation": value}
    extent = MaskReader(findings).read(annotation, "annotation 1", size)
    if extent is None:
        return None, list(findings.counts)
    mask = annotation["segmentation"]
    rles = mask_util.frPyObjects(mask, HEIGHT, WIDTH) if isinstance(mask, list) else [mask]
    return mask_util.decode(mask_util.merge(rles)), list(findings.counts)


@pytest.mark.parametrize(
    "value",
    [
        [rle(np.s_[2:5]), rle(np.s_[5:9])],
        [rle(np.s_[2:7]), rle(np.s_[4:9])],
        bitmap().tolist(),
        (255 * bitmap()).tolist(),
        bitmap().astype(bool).tolist(),
        [POINTS],
        [[POINTS]],
        [[[[SQUARE]]]],
    ],
    ids=["parts", "overlap", "bitmap", "255", "truth", "x and y", "x and y deeper", "deep"],
)
def test_forms_whose_meaning_is_clear_are_converted(value) -> None:
    mask, codes = read(value)
    np.testing.assert_array_equal(mask, bitmap())
    assert codes == ["polygon-form"]


def test_rows_of_another_size_than_the_image_are_no_bitmap() -> None:
    assert read(bitmap().tolist(), (HEIGHT, WIDTH + 2))[1] == []


@pytest.mark.parametrize("value", [None, [], {}, [None], [[]], [[[]]], [[], None]])
def test_no_mask_in_any_form_is_missing(value) -> None:
    assert read(value) == (None, ["mask-missing"])


def test_two_rle_of_which_one_is_damaged_are_left_out() -> None:
    assert read([rle(np.s_[2:5]), {"size": [HEIGHT, WIDTH], "counts": [5]}]) == (
        None,
        ["polygon-form", "rle-damaged"],
    )


def test_numbers_that_no_float_holds_are_no_coordinates() -> None:
    assert read([[10**400, *SQUARE[1:]]]) == (None, ["polygon-coordinates"])
    assert usable_box([10**400, 0, 1, 1]) is None
    assert usable_box([-1e308, 0, 1e308, 1]) is None


def test_outlines_that_would_fill_the_memory_are_left_out() -> None:
    there_and_back = [v for i in range(40) for v in (999_999.0 * (i % 2), float(i % HEIGHT))]
    assert read([there_and_back]) == (None, ["polygon-endless"])
    # As many points in a small image are an odd object, and no danger.
    near = [v for i in range(100_000) for v in (float(i % 2), float(i % HEIGHT))]
    mask, codes = read([near])
    assert mask is not None and codes == []


def test_long_facts_do_not_fill_the_screen() -> None:
    findings = Findings("a.json")
    findings.add("mask-missing", "annotation 1", value="x" * 10_000)
    assert len(str(next(iter(findings)))) < 700
