"""What an exported file says about its model: one json under one key, with a digest of the file.

Standard library only: whoever exports writes it, whoever runs the file reads it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any

from ..errors import UserError
from ..formats.atomic import PathLike
from ..formats.onnx_file import digest_without, read_entry, write_entry

KEY = "mask2former"  # of the metadata of the file
SCHEMA = 1  # raised where a reader of the one before would misread the file

# What a file takes and gives, and of which sizes (B images, T frames, N masks, Q queries, K
# classes): see docs/export.md.
KINDS = {
    "image": (("images",), ("class_logits", "mask_logits")),
    "clip": (("images",), ("class_logits", "mask_logits")),
    "per_pixel": (("images",), ("semantic_logits",)),
    "given_masks": (("images", "masks"), ("class_logits",)),
}
EMBEDDINGS = "embeddings"  # (Q, C), after those of a clip, where `Metadata.embeddings` says so
_MAX_SIDE = 2**14  # pixels to which every image is enlarged, so that no file makes huge ones
SEMANTIC_OUTPUTS = ("scores", "labels")
# What a file gives instead whose graph makes the results itself, and which kinds may.
POSTPROCESSES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "semantic": ("class_map",),
    "panoptic": ("segment_ids", "segment_classes", "count"),
    "instance": ("masks", "boxes", "scores", "classes", "count"),
}
MERGED_KINDS = {"": tuple(KINDS), "semantic": ("image", "per_pixel")}  # others: images alone


@dataclass(frozen=True)
class Metadata:
    """What is needed to run an exported model, and to know where it comes from.

    Attributes:
        kind: one of `KINDS`, which says what the file takes and gives.
        class_names: K, in the order of the class logits.
        channel_order: "RGB" or "BGR", that of the images.
        pixel_mean, pixel_std: of each channel in that order, in 0..255. The graph subtracts and
            divides by them itself; what is padded has the value of the mean.
        size_divisibility: height and width of the images are multiples of it, in pixels.
        min_size, max_size: images are resized by detectron2's ResizeShortestEdge, in pixels.
        thing_ids: positions of the classes that are things.
        colors: RGB in 0..255 of each class; () where they are not known.
        thing_categories, stuff_categories: pairs of a dataset's category id and a position in
            class_names; () where categories have the positions as ids.
        semantic_on, panoptic_on, instance_on: the results that the config wants.
        object_mask_threshold, overlap_threshold: of panoptic segments, in 0..1.
        topk: instances of an image; of a clip it is fixed.
        resize_before_merge: masks are resized to the output before they are merged.
        semantic_output: what a semantic result is: "scores" of all classes, or "labels".
        postprocess: the kind of result that is made in the graph already, "" for none.
        max_pixels: the largest photo that is read; 0 for Pillow's own limit.
        exif_rotation: photos are turned upright as their EXIF tag says.
        window, window_overlap: frames of a clip that pass together, and that two such share; 0 for
            the whole clip.
        embeddings: the file of a clip gives the decoder's queries, too, by which tracks are linked.
        mask_quality, duplicate_iou: how queries of clips are scored; see `QueryScores`.
        config: name of the config, for people.
        weights_sha256: of the file of weights, "" where there was none.
        versions: of the packages that exported, by name.
        license: a line about the use of the weights.
        parity: what was measured at export, by name; {} where nothing was.
        schema: of this json.
        digest: of the file and of all above, by which a changed file is noticed; `write` sets it.
    """

    kind: str
    class_names: tuple[str, ...]
    channel_order: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    size_divisibility: int
    min_size: int
    max_size: int
    thing_ids: tuple[int, ...] = ()
    colors: tuple[tuple[int, ...], ...] = ()
    thing_categories: tuple[tuple[int, int], ...] = ()
    stuff_categories: tuple[tuple[int, int], ...] = ()
    semantic_on: bool = False
    panoptic_on: bool = False
    instance_on: bool = False
    object_mask_threshold: float = 0.0
    overlap_threshold: float = 0.0
    topk: int = 100
    resize_before_merge: bool = True
    semantic_output: str = "scores"
    postprocess: str = ""
    max_pixels: int = 0
    exif_rotation: bool = True
    window: int = 0
    window_overlap: int = 0
    embeddings: bool = False
    mask_quality: bool = False
    duplicate_iou: float = 1.0
    config: str = ""
    weights_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    license: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA
    digest: str = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one cannot be used; says which, what was expected and what came.
        """
        for name, (is_right, expected) in (self._class_rules() | self._other_rules()).items():
            if not is_right:
                raise UserError(f"{name}: expected {expected}, got {getattr(self, name)!r}")

    def _class_rules(self) -> dict[str, tuple[bool, str]]:
        """Return whether each value about classes is right, and what was expected."""
        count = len(self.class_names)
        positions = range(count)
        places = f"positions in class_names, 0 to {count - 1}"
        pairs = f"pairs of a category id and one of the {places}"
        colors = f"[red, green, blue] in 0 to 255 of each of {count} classes, or nothing"
        things_fit = _are(int, self.thing_ids) and set(self.thing_ids) <= set(positions)
        colors_fit = len(self.colors) in (0, count) and all(map(_is_color, self.colors))
        return {
            "class_names": (count > 0 and _are(str, self.class_names), "the names of all classes"),
            "thing_ids": (things_fit, places),
            "colors": (colors_fit, colors),
            "thing_categories": (_are_pairs(self.thing_categories, positions), pairs),
            "stuff_categories": (_are_pairs(self.stuff_categories, positions), pairs),
        }

    def _other_rules(self) -> dict[str, tuple[bool, str]]:
        """Return the same of the other values."""
        three = "three finite numbers, one for each channel"
        divides = _are_three(self.pixel_std) and 0 not in self.pixel_std
        return {
            "kind": (self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            "channel_order": (self.channel_order in ("RGB", "BGR"), "'RGB' or 'BGR'"),
            "pixel_mean": (_are_three(self.pixel_mean), three),
            "pixel_std": (divides, f"{three}, not 0"),
            "size_divisibility": (1 <= self.size_divisibility <= _MAX_SIDE, f"1 to {_MAX_SIDE}"),
            "min_size": (
                0 <= self.min_size <= _MAX_SIDE,
                f"0 (images keep their size) to {_MAX_SIDE}",
            ),
            "max_size": (self.max_size >= 0, "0 or more"),
            "object_mask_threshold": (isfinite(self.object_mask_threshold), "a finite number"),
            "overlap_threshold": (isfinite(self.overlap_threshold), "a finite number"),
            "topk": (self.topk >= 1, "1 or more"),
            "semantic_output": (
                self.semantic_output in SEMANTIC_OUTPUTS,
                f"one of {', '.join(SEMANTIC_OUTPUTS)}",
            ),
            "postprocess": (
                self.postprocess in POSTPROCESSES
                and self.kind in MERGED_KINDS.get(self.postprocess, ("image",)),
                f"one of {', '.join(POSTPROCESSES)} that fits the kind",
            ),
            "max_pixels": (self.max_pixels >= 0, "0 or more"),
            "window": (self.window >= 0, "0 (the whole clip) or more"),
            "embeddings": (not self.embeddings or self.kind == "clip", "none but of clips"),
            "duplicate_iou": (0 <= self.duplicate_iou <= 1, "a number in 0..1"),
        }

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the inputs and outputs of the file."""
        inputs, outputs = KINDS[self.kind]
        more = (EMBEDDINGS,) if self.embeddings else ()
        return inputs, POSTPROCESSES[self.postprocess] or (*outputs, *more)

    def to_json(self) -> str:
        """Return the text that the file holds."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Metadata":
        """Read what `to_json` wrote; keys that are not known are left out.

        Args:
            where: what messages call the file.

        Raises:
            UserError: it is no such text, is of a newer schema, or a value cannot be used.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{where}: its metadata are damaged ({error}); export it anew"
            ) from None
        if not isinstance(values, dict) or type(values.get("schema")) is not int:
            raise UserError(f"{where}: its metadata have no schema version; export it anew")
        if values["schema"] > SCHEMA:
            raise UserError(
                f"{where}: its metadata have the schema version {values['schema']}, and this "
                f"mask2former reads up to {SCHEMA}; update it: pip install -U mask2former"
            )
        try:
            return cls(**{f.name: _typed(values, f) for f in fields(cls) if f.name in values})
        except (TypeError, ValueError, OverflowError) as error:  # the last: of endless integers
            raise UserError(f"{where}: its metadata cannot be used: {error}") from None


def write(path: PathLike, metadata: Metadata) -> Metadata:
    """Put metadata into an ONNX file, in place of those that it has, and return them with digest.

    Raises:
        FileNotFoundError, UserError: there is no such ONNX file.
    """
    metadata = replace(metadata, digest=_digest(path, metadata.to_json()))
    write_entry(path, KEY, metadata.to_json())
    return metadata


def read(path: PathLike, *, verify: bool = True) -> Metadata:
    """Return the metadata of an exported ONNX file.

    Args:
        verify: compare the digest, which reads the whole file.

    Raises:
        FileNotFoundError: no such file.
        UserError: it is no ONNX file, was not exported by mask2former, or has been changed.
    """
    text = read_entry(path, KEY)
    if text is None:
        raise UserError(
            f"{path}: expected an ONNX file of `python -m mask2former.export`, this one has no "
            f"metadata {KEY!r}, which say what its inputs and outputs mean; export the model anew"
        )
    metadata = Metadata.from_json(text, str(path))
    if verify and _digest(path, text) != metadata.digest:
        raise UserError(
            f"{path}: the file is not what was exported: its content does not have the digest that "
            "its metadata say. Export it anew, or read it with verify=False if you changed it."
        )
    return metadata


def _digest(path: PathLike, text: str) -> str:
    """Return the digest of a file and of its metadata, in which the digest itself is empty."""
    empty = json.dumps({**json.loads(text), "digest": ""}, sort_keys=True)
    return hashlib.sha256(f"{digest_without(path, KEY)}\n{empty}".encode()).hexdigest()


def _typed(values: Mapping[str, Any], of: Any) -> Any:
    """Return a value as the field of its name has it.

    Raises:
        TypeError: it is of another type.
    """
    value, wanted = values[of.name], of.type
    if getattr(wanted, "__origin__", wanted) is Mapping:
        wanted = dict
    elif getattr(wanted, "__origin__", None) is tuple:
        wanted, value = tuple, _tuples(value)
    elif wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        raise TypeError(f"{of.name}: expected {wanted.__name__}, got {values[of.name]!r}")
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _are(kind: type, values: Any) -> bool:
    return all(type(value) is kind for value in values)


def _are_three(values: Any) -> bool:
    return len(values) == 3 and all(type(v) in (int, float) and isfinite(v) for v in values)


def _is_color(value: Any) -> bool:
    is_triple = isinstance(value, tuple) and len(value) == 3 and _are(int, value)
    return is_triple and all(0 <= channel <= 255 for channel in value)


def _are_pairs(values: Any, positions: range) -> bool:
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and _are(int, pair) for pair in values)
    return pairs and all(k in positions for _, k in values)
