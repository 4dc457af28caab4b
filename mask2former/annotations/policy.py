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
    "no-annotations": Rule(
        "refused", "no object is left to learn from: nothing is annotated, as in files of test sets"
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
    "record-form": Rule("refused", "not in detectron2's format: {problem}"),
    "cannot-be-loaded": Rule("refused", "{problem}"),
    "file-unusable": Rule("refused", "{problem}"),
    "config": Rule("refused", "{problem}"),
    "more-objects-than-queries": Rule(
        "taken",
        "up to {most} objects in an image, in {count} images more than the {queries} queries of "
        "the model, which learns the rest as background; set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES "
        "to {most} or more",
    ),
    "objects-near-queries": Rule(
        "taken",
        "one of a hundred images has {usual} objects or more, near the {queries} queries of the "
        "model, which has few to choose from then; with MODEL.MASK_FORMER.NUM_OBJECT_QUERIES "
        "{enough} there is room",
    ),
    "more-objects-than-detections": Rule(
        "taken",
        "up to {most} objects in an image, and {limit} results of an image are scored; set "
        "TEST.DETECTIONS_PER_IMAGE to {most} or more",
    ),
    "path-changed": Rule("taken", "its file {name!r} was found as {path}"),
    "image-file-missing": Rule(
        "refused",
        "there is no file {name!r}; tried {tried}; correct the name, or set image_root to the "
        "folder that it is below",
    ),
}

_IMAGES = {
    "image-id-missing": Rule("refused", "the image has no id, or null"),
    "image-id-shared": Rule("refused", "two files have this id: {first} and {second}"),
    "image-twice": Rule("taken", "the image is listed twice; the entries count as one"),
    "image-name-missing": Rule(
        "refused", "the image has no file_name, the path of its file below image_root"
    ),
    "frame-names-missing": Rule(
        "refused", "file_names is {value!r}, expected a list with the file of each frame"
    ),
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
    "polygon-endless": Rule(
        "left out",
        "the outline of its polygons is {outline} pixels long, more than any object has; the "
        "object is left out",
    ),
    "polygon-form": Rule("taken", "the mask is {found}: converted"),
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

_CLASSES = {
    "no-classes": Rule("refused", "it has no categories; expected a list of ids and names"),
    "class-id-missing": Rule("refused", "the category {name!r} has no id, or null"),
    "class-id-shared": Rule("refused", "two categories have this id: {first!r} and {second!r}"),
    "class-repeated": Rule("taken", "the category is listed {count} times alike; it counts once"),
    "class-nameless": Rule("refused", "the category has no name"),
    "class-name-form": Rule("refused", "{problem}"),
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
    "classes-named-otherwise": Rule(
        "taken",
        "its classes are named otherwise than those that {name} is registered with: {classes}",
    ),
    "class-unused": Rule("taken", "classes of which there is no object: {names}"),
    "class-color": Rule("taken", "the colour {value!r} is read as {read}"),
    "class-color-unusable": Rule("taken", "the colour {value!r} is replaced"),
    "isthing-missing": Rule("refused", "the category has to have isthing 0 or 1, got {value!r}"),
}

_PANOPTIC = {
    "no-maps": Rule("refused", "no image has a panoptic map: there are no annotations in it"),
    "map-name-missing": Rule("refused", "the annotation has no file_name, that of its PNG"),
    "map-twice": Rule("taken", "the image is annotated twice alike; it counts once"),
    "map-shared": Rule(
        "refused", "two annotations have this image_id, with the maps {first} and {second}"
    ),
    "image-without-map": Rule("left out", "no annotation has its panoptic map; left out"),
    "class-id-text": Rule("refused", "the id {value!r} of a category has to be a whole number"),
    "segments-missing": Rule("taken", "segments_info is {value!r}: read as no segment"),
    "segments-form": Rule("refused", "segments_info: expected a list of segments, got {found}"),
    "segment-id-unusable": Rule(
        "refused", "the id {value!r} of a segment has to be a number from 1 to 16777215; 0 is void"
    ),
    "segment-twice": Rule("taken", "the segment is listed twice alike; it counts once"),
    "segment-id-shared": Rule(
        "refused", "two segments have this id, of the categories {first} and {second}"
    ),
    "segment-listed-twice": Rule("refused", "the segment is listed {count} times"),
    "segment-without-pixel": Rule(
        "taken", "the segment is listed and has no pixel: an empty target, which no result can hit"
    ),
    "segment-not-listed": Rule(
        "refused", "the segment has {pixels} pixels and is not listed in segments_info"
    ),
}

_VIDEOS = {
    "length-unusable": Rule("refused", "length is {value!r} and there are no file_names"),
    "length-contradicts": Rule(
        "refused", "the video has {files} file names and the length {length}: which frames are it?"
    ),
    "object-video-missing": Rule("refused", "has no video_id, or null"),
    "object-of-unlisted-video": Rule("left out", "its video {video!r} is not listed; left out"),
    "frames-differ": Rule(
        "refused",
        "{key}: expected one for each of the {frames} frames of video {video}, got {found}",
    ),
    "frame-unusable": Rule("taken", "{problem}; it counts as not to be seen in this frame"),
    "track-unseen": Rule("taken", "it is seen in no frame"),
    "track-unusable": Rule("left out", "none of its masks can be used; the object is left out"),
}

_WHITE = (
    "the label maps have nothing but 0, which is the class {name!r}, and 255, which is ignored; "
    "where 255 is a class, set classes {{'0': {first!r}, '255': {second!r}}} and another "
    "ignore_label (254)"
)

_LABEL_MAPS = {
    "files-of-one-name": Rule("refused", "{first} and {second} have the same name: keep one"),
    "photos-without-map": Rule(
        "left out",
        "{count} of {total} photos have no label map of their name and are left out{hint}: {names}",
    ),
    "maps-without-photo": Rule(
        "left out",
        "{count} of {total} label maps have no photo of their name and are left out{hint}: {names}",
    ),
    "label-unknown": Rule(
        "refused",
        "has the labels {labels}, which are no class from 0 to {last} and not the label "
        "{ignore_label} to be ignored",
    ),
    "label-ignored": Rule(
        "taken", "has the labels {labels}, which are no class and will be ignored"
    ),
    "map-without-class": Rule("taken", "has no pixel with a class"),
    "no-class-in-maps": Rule("refused", "no pixel of the {count} label maps has a class"),
    "white-ignored": Rule("taken", _WHITE),
    "white-ignored-one-class": Rule(
        "refused", _WHITE + "; as it stands, there is one class alone to learn"
    ),
}

POLICY: dict[str, Rule] = (
    _FILES | _IMAGES | _OBJECTS | _MASKS | _CLASSES | _PANOPTIC | _VIDEOS | _LABEL_MAPS
)
