"""The policy: what becomes of each irregularity in annotations, one rule a code.

The page docs/annotations.md explains each code, with what to do about it.
"""

from typing import Literal, NamedTuple


class Rule(NamedTuple):
    """What becomes of an irregularity.

    Attributes:
        outcome: "taken" (computed or converted), "left out" (the others can be used) or "refused".
        text: what messages say; braces are filled in.
    """

    outcome: Literal["taken", "left out", "refused"]
    text: str


_FILES = {
    "other-form": Rule("refused", "expected {expected}, but this looks like {found}"),
    "no-images": Rule("refused", "there is no image in it"),
    "no-objects": Rule(
        "refused", "no object is left to learn from: {annotated} annotated, {reasons}"
    ),
    "all-crowd": Rule(
        "refused",
        "all {count} objects are flagged as crowd (iscrowd 1), which training and scoring leave "
        "out; set iscrowd to 0 where an annotation is one object",
    ),
    "boxes-only": Rule(
        "refused",
        "boxes only, no masks: none of the {count} objects has a segmentation. Set "
        "DATASETS.BOXES_AS_MASKS True to train on the boxes as masks, or export with masks",
    ),
    "entry-form": Rule("refused", "expected a json object, got {found}"),
    "cannot-be-loaded": Rule("refused", "{problem}"),
    "file-unusable": Rule("refused", "{problem}"),
    "config": Rule("refused", "{problem}"),
    "more-objects-than-queries": Rule(
        "taken",
        "up to {most} objects in an image, in {count} images more than the {queries} queries of "
        "the model, which learns the rest as background; set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES "
        "to {most} or more",
    ),
    "more-objects-than-detections": Rule(
        "taken",
        "up to {most} objects in an image, and {limit} results of an image are scored; set "
        "TEST.DETECTIONS_PER_IMAGE to {most} or more",
    ),
    "path-changed": Rule("taken", "its file {name!r} was found as {path}"),
    "image-file-missing": Rule("refused", "there is no file {name!r}; tried {tried}"),
}

_IMAGES = {
    "image-id-missing": Rule("refused", "the image has no id, or null"),
    "image-id-shared": Rule("refused", "two files have this id: {first} and {second}"),
    "image-twice": Rule("taken", "the image is listed twice; the entries count as one"),
    "image-name-missing": Rule("refused", "the image has no file_name"),
    "file-twice": Rule("taken", "the file {name} is listed under the ids {first} and {second}"),
    "image-size": Rule("taken", "height {height!r} and width {width!r}: read from the file"),
}

_OBJECTS = {
    "object-image-missing": Rule("refused", "has no image_id, or null"),
    "object-of-unlisted-image": Rule("left out", "its image {image!r} is not listed; left out"),
    "object-id-twice": Rule("taken", "the id occurs more than once, which does no harm"),
    "class-unknown": Rule(
        "refused", "has the category id {category!r}, which is none of the known ids {known}"
    ),
    "crowd-form": Rule("taken", "{key} is {value!r}: read as {read}"),
    "crowd-unclear": Rule("refused", "{key} is {value!r}, expected 0 or 1"),
    "mostly-crowd": Rule(
        "taken",
        "{crowd} of {count} objects are flagged as crowd, and so neither learnt nor scored; set "
        "iscrowd to 0 where an annotation is one object",
    ),
    "box-unusable": Rule("taken", "bbox is {value!r}: computed from the mask"),
    "box-contradicts": Rule("taken", "the bbox {box} is far from the mask, which fills {extent}"),
    "area-unusable": Rule("taken", "area is {value!r}: computed from the mask"),
    "area-contradicts": Rule("taken", "the area is {area}, the mask has {pixels} pixels"),
}

_MASKS = {
    "mask-missing": Rule("left out", "it has no mask (segmentation is {value!r}); left out"),
    "mask-form": Rule(
        "left out", "expected polygons or an RLE as mask, got {found}; the object is left out"
    ),
    "polygon-short": Rule(
        "left out", "its polygon has fewer than 3 points; the object is left out"
    ),
    "polygon-part-short": Rule(
        "taken", "a polygon of it has fewer than 3 points and is left out; the others stay"
    ),
    "polygon-odd": Rule("taken", "a polygon has an odd number of values; the last is left off"),
    "polygon-coordinates": Rule(
        "left out",
        "a polygon has a coordinate that is no number or far outside of the image; the object is "
        "left out",
    ),
    "polygon-form": Rule("taken", "the polygon is {found}: converted"),
    "polygon-unit": Rule(
        "refused",
        "all coordinates of its polygons lie in 0 to 1; expected pixels: multiply x by the width "
        "and y by the height of the image",
    ),
    "rle-damaged": Rule("left out", "its RLE cannot be used ({problem}); the object is left out"),
    "mask-from-box": Rule("taken", "it has no mask: its box is taken (DATASETS.BOXES_AS_MASKS)"),
    "class-out-of-range": Rule("refused", "has class {category}, expected 0 to {last}"),
    "mask-empty": Rule("taken", "the mask covers no pixel of the image"),
}

_MAPS = {
    "segment-listed-twice": Rule("refused", "the segment is listed {count} times"),
    "segment-without-pixel": Rule("taken", "the segment is listed and has no pixel"),
    "segment-not-listed": Rule("refused", "the segment has {pixels} pixels and is not listed"),
    "label-unknown": Rule(
        "refused",
        "has the labels {labels}, which are no class from 0 to {last} and not the label "
        "{ignore_label} to be ignored",
    ),
    "label-ignored": Rule(
        "taken", "has the labels {labels}, which are no class and will be ignored"
    ),
    "map-without-class": Rule("taken", "has no pixel with a class"),
    "track-unseen": Rule("taken", "it is seen in no frame"),
}

_CLASSES = {
    "no-classes": Rule("refused", "it has no categories; expected a list of ids and names"),
    "class-id-missing": Rule("refused", "the category {name!r} has no id, or null"),
    "class-id-shared": Rule("refused", "two categories have this id: {first!r} and {second!r}"),
    "class-repeated": Rule("taken", "the category is listed {count} times alike; it counts once"),
    "class-nameless": Rule("refused", "the category has no name"),
    "class-name-form": Rule("refused", "the name is {value!r}, expected text; put it in quotes"),
    "class-name-number": Rule("taken", "the name {value!r} is read as text"),
    "class-name-doubled": Rule(
        "refused", "the name {name!r} is that of the categories {first} and {second}; rename one"
    ),
    "class-name-doubled-unused": Rule(
        "left out",
        "no object has this category, and {name!r} is also the name of category {other}; left out",
    ),
    "classes-differ": Rule(
        "refused", "its classes are not those that {name} is registered with: {classes}"
    ),
    "class-unused": Rule("taken", "classes of which there is no object: {names}"),
    "class-color": Rule("taken", "the colour {value!r} is read as {read}"),
    "class-color-unusable": Rule("taken", "the colour {value!r} is replaced"),
    "isthing-missing": Rule("refused", "the category has to have isthing 0 or 1, got {value!r}"),
}

POLICY: dict[str, Rule] = _FILES | _IMAGES | _OBJECTS | _MASKS | _MAPS | _CLASSES
