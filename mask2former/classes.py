"""The classes of a model, known by name: in configs, in checkpoints, and as metadata."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from .config.loading import changed
from .errors import UserError
from .formats.class_names import class_texts


@dataclass(frozen=True)
class Classes:
    """The K classes that a model tells apart.

    Attributes:
        names: in the order of the class logits, each once.
        thing_ids: positions of those that are things.
        colors: RGB in 0..255 of each; () where they are not known.
    """

    names: tuple[str, ...]
    thing_ids: tuple[int, ...] = ()
    colors: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> "Classes":
        """Read names, thing_ids and colors, as `to_plain` returns them.

        Args:
            where: what messages call the values.

        Raises:
            UserError: a name, position or colour cannot be used; says which.
        """
        keys = ("names", "thing_ids", "colors")
        lists = {key: [] if values.get(key) is None else values[key] for key in keys}
        for key, value in lists.items():
            if not isinstance(value, list | tuple):
                raise UserError(f"{where}: {key} expects a list, got {value!r}")
        names = class_texts(lists["names"], f"{where}: names")
        for i in lists["thing_ids"]:
            if type(i) is not int or not 0 <= i < len(names):
                raise UserError(
                    f"{where}: thing_ids expects positions in names, 0 to {len(names) - 1}, got "
                    f"{i!r}"
                )
        colors = lists["colors"]
        if colors and (len(colors) != len(names) or not all(map(_is_color, colors))):
            raise UserError(
                f"{where}: colors expects [red, green, blue] in 0 to 255 for each of the "
                f"{len(names)} names, or nothing, got {colors!r}"
            )
        thing_ids = tuple(sorted(set(lists["thing_ids"])))
        return cls(tuple(names), thing_ids, tuple(tuple(color) for color in colors))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Classes | None":
        """Read MODEL.CLASSES; None where its NAMES are empty.

        Raises:
            UserError: as `from_plain`.
        """
        node = cfg.MODEL.get("CLASSES")
        if not node or not node.NAMES:
            return None
        return cls.from_plain({key.lower(): value for key, value in node.items()}, "MODEL.CLASSES")

    @classmethod
    def from_checkpoint(cls, content: Mapping[str, Any]) -> "Classes | None":
        """Read the entry "classes" of a checkpoint, in .safetensors as json; None where it has none
        of ours."""
        entry = content.get("classes")
        try:  # it may be an entry of another project that has this name
            entry = json.loads(entry) if isinstance(entry, str) else entry
            if isinstance(entry, Mapping) and entry.get("names"):
                return cls.from_plain(entry, "classes")
        except (ValueError, RecursionError):
            pass
        return None

    @classmethod
    def from_metadata(cls, metadata: Metadata, names: Sequence[str]) -> "Classes":
        """Take things and colours of ``names``, which are the metadata's stuff_classes, or else its
        thing_classes, from a dataset's metadata."""
        things = metadata.get("thing_classes") or []
        if list(names) == list(metadata.get("stuff_classes") or []):
            ids = (metadata.get("thing_dataset_id_to_contiguous_id") or {}).values()
            # Where stuff has numbers of its own, the numbers of things are no positions in names.
            thing_ids = sorted(ids) if set(things) <= set(names) else []
            colors = metadata.get("stuff_colors") or []
        else:
            thing_ids, colors = list(range(len(names))), metadata.get("thing_colors") or []
        colors = colors if len(colors) == len(names) else []
        return cls(tuple(names), tuple(thing_ids), tuple(tuple(map(int, c)) for c in colors))

    def to_plain(self) -> dict[str, list[Any]]:
        """Return lists, as configs and checkpoints have them."""
        return {
            "names": list(self.names),
            "thing_ids": list(self.thing_ids),
            "colors": [list(color) for color in self.colors],
        }

    def write(self, cfg: CfgNode) -> None:
        """Set MODEL.CLASSES in a config that is not frozen."""
        for key, value in self.to_plain().items():
            setattr(cfg.MODEL.CLASSES, key.upper(), value)

    def in_config(self, cfg: CfgNode) -> CfgNode:
        """Return a copy of a config with MODEL.CLASSES set, frozen where ``cfg`` is."""
        opts = [(f"MODEL.CLASSES.{key.upper()}", value) for key, value in self.to_plain().items()]
        return changed(cfg, *itertools.chain.from_iterable(opts))

    def to_metadata(self, name: str = "the model") -> Metadata:
        """Return metadata as panoptic datasets have them, or semantic ones where there are no
        things; category ids are positions."""
        values: dict[str, Any] = {}
        for kind, ids in (("stuff", range(len(self.names))), ("thing", self.thing_ids)):
            if ids:
                values[f"{kind}_classes"] = [self.names[i] for i in ids]
                values[f"{kind}_dataset_id_to_contiguous_id"] = {i: i for i in ids}
                if self.colors:
                    values[f"{kind}_colors"] = [list(self.colors[i]) for i in ids]
        return Metadata(name=name, **values)

    def moved(self, other: "Classes") -> list[str]:
        """Return the names that both have, at other positions."""
        places = {name: i for i, name in enumerate(other.names)}
        return [n for i, n in enumerate(self.names) if places.get(n, i) != i]

    def difference(self, other: "Classes", here: str, there: str) -> str:
        """Say how the names differ from others; "" where they are the same in the same order.

        Args:
            here, there: what the message calls the two.
        """
        parts = []
        for owner, names, others in (
            (here, self.names, other.names),
            (there, other.names, self.names),
        ):
            alone = [name for name in names if name not in others]
            if alone:
                parts.append(f"only in {owner}: {list_some(alone)}")
        if moved := self.moved(other):
            places = [f"{n} ({self.names.index(n)}, {other.names.index(n)})" for n in moved]
            parts.append(f"at other positions (in {here}, in {there}): {list_some(places)}")
        return "; ".join(parts)


def metadata_of(cfg: CfgNode, dataset: str | None) -> Metadata | None:
    """Return the metadata of a dataset, or of MODEL.CLASSES where the dataset's are not known or
    name the classes in another order."""
    metadata = MetadataCatalog.get(dataset) if dataset else None
    classes = Classes.from_config(cfg)
    if classes is None:
        return metadata
    lists = [metadata.get(f"{kind}_classes") for kind in ("stuff", "thing")] if metadata else []
    fits = list(classes.names) in [list(names) for names in lists if names]
    return metadata if fits else classes.to_metadata()


def list_some(names: Iterable[str] | None) -> str:
    """Return names of classes for a message: the first five, and how many more there are."""
    listed = list(names or ["none"])
    return ", ".join(listed[:5]) + f" and {len(listed) - 5} more" * (len(listed) > 5)


def _is_color(value: Any) -> bool:
    is_triple = isinstance(value, list | tuple) and len(value) == 3
    return is_triple and all(type(channel) is int and 0 <= channel <= 255 for channel in value)
