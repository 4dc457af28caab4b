"""What a job is to make of its inputs, and how."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ...config.architecture import meta_architecture
from ...errors import UserError
from ...formats.containers.parquet import import_pyarrow
from ...visualization import KINDS

INSTANCES, PANOPTIC, LABELS, TRACKS = "instances", "panoptic", "labels", "youtube_vis"
PARQUET, DRAWINGS = "parquet", "drawings"
OUTPUTS = (INSTANCES, PANOPTIC, LABELS, TRACKS, PARQUET, DRAWINGS)
ERRORS = "errors.jsonl"
FILES = {  # of the whole job
    INSTANCES: "instances.json",
    PANOPTIC: "panoptic.json",
    LABELS: "labels.json",
    TRACKS: "youtube_vis.json",
    PARQUET: "instances.parquet",
}
FOLDERS = (PANOPTIC, LABELS, DRAWINGS)  # with a file for each image

_FLAGS = {INSTANCES: "INSTANCE_ON", PANOPTIC: "PANOPTIC_ON", LABELS: "SEMANTIC_ON"}
_DRAWN = dict(zip(KINDS, (PANOPTIC, INSTANCES, LABELS)))


@dataclass(frozen=True)
class Settings:
    """Settings of a job, which go to its workers as they are.

    Attributes:
        cfg: the config, with MODEL.WEIGHTS and MODEL.DEVICE.
        output: folder of the results.
        outputs: of `OUTPUTS`.
        score_threshold: instances of a lower score are left out, in 0..1.
        label_threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
        kind: what is drawn, one of `KINDS`; None for the richest.
        batch: largest number of images that pass the model together.
        shard_size: images whose results are written together.
        window: frames that a model for video looks at together; see `VideoPredictor`.
        skip_damaged: leave out frames of videos that cannot be read.
        stop_on_error: end at the first input that cannot be read.
        readers, encoders: processes of each worker; 0 for none, the worker does it itself.
        threads: of torch in each worker; 0 leaves them as they are.
        tile, overlap, channels: of images that are predicted in tiles, see `TiledPredictor`; a tile
            of None for whole images.
        lease_seconds: after which a worker on another machine that does not answer is dead.
    """

    cfg: CfgNode
    output: Path
    outputs: tuple[str, ...]
    score_threshold: float = 0.5
    label_threshold: float = 0.0
    kind: str | None = None
    batch: int = 8
    shard_size: int = 64
    window: int | None = None
    skip_damaged: bool = False
    stop_on_error: bool = False
    readers: int = 0
    encoders: int = 0
    threads: int = 0
    lease_seconds: float = 60.0
    tile: int | None = None
    overlap: int | None = None
    channels: tuple[int, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what results depend on, beside the config, for the fingerprint."""
        names = ["outputs", "score_threshold", "label_threshold", "kind", "shard_size", "window"]
        names += ["skip_damaged", "tile", "overlap", "channels"]
        return {name: getattr(self, name) for name in names}

    @property
    def needs(self) -> set[str]:
        """Which results of the model are needed: of INSTANCES, PANOPTIC and LABELS."""
        possible = possible_outputs(self.cfg)
        found = {name for name in (INSTANCES, PANOPTIC, LABELS) if name in self.outputs}
        if TRACKS in self.outputs or PARQUET in self.outputs:
            found.update([name for name in (INSTANCES, PANOPTIC) if name in possible][:1])
        if DRAWINGS in self.outputs:
            drawn = [_DRAWN[self.kind]] if self.kind else list(_DRAWN.values())
            found.update([name for name in drawn if name in possible][:1])
        return found


def is_for_video(cfg: CfgNode) -> bool:
    """Return whether the model of a config is one for video."""
    return meta_architecture(cfg) == "VideoMaskFormer"


def possible_outputs(cfg: CfgNode) -> tuple[str, ...]:
    """Return which of `OUTPUTS` the model of a config gives, in their order.

    Raises:
        UserError: a model that needs more than images.
    """
    name = meta_architecture(cfg)
    if name == "MaskClassifier":
        raise UserError(
            "a MaskClassifier names masks that are given with each image: use demo/demo.py --masks"
        )
    test = cfg.MODEL.MASK_FORMER.TEST
    if name == "VideoMaskFormer":
        given = []
    elif name == "MaskFormer":
        given = [output for output, flag in _FLAGS.items() if test[flag]]
    else:
        given = [LABELS]
    with_objects = {INSTANCES, PANOPTIC} & set(given) or name == "VideoMaskFormer"
    has_rows = INSTANCES in given or name == "VideoMaskFormer"
    return (
        *given,
        *([TRACKS] if with_objects else []),
        *([PARQUET] if has_rows else []),
        DRAWINGS,
    )


def choose_outputs(cfg: CfgNode, wanted: Sequence[str], kind: str | None = None) -> tuple[str, ...]:
    """Return the outputs wanted, by default all that are json or PNG, in the order of `OUTPUTS`.

    Raises:
        UserError: an unknown one, or one that the model does not give.
        ImportError: one that needs a package which is missing.
    """
    possible = possible_outputs(cfg)
    if kind is not None and _DRAWN[kind] not in possible and not is_for_video(cfg):
        raise UserError(f"--draw {kind}: this model gives {', '.join(possible)}")
    if not wanted:
        return tuple(name for name in possible if name not in (PARQUET, DRAWINGS))
    wrong = [name for name in wanted if name not in possible]
    if wrong:
        raise UserError(
            f"--save {' '.join(wrong)}: this model gives {', '.join(possible)}. Turn outputs on "
            "with MODEL.MASK_FORMER.TEST.{PANOPTIC,INSTANCE,SEMANTIC}_ON."
        )
    if PARQUET in wanted:
        import_pyarrow()
    return tuple(name for name in OUTPUTS if name in wanted)
