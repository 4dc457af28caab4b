"""The model that is measured, and transformers' with the same weights.

There are no trained weights here, so the weights are random; `calibrate` sees to it that as many
queries survive the thresholds as in a trained model, since post-processing costs by the query.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image
from torch import Tensor, nn

from mask2former import load_config
from mask2former.checkpoints.bridges.convert import build_on_cpu, ours_to_huggingface
from mask2former.checkpoints.storage.weights_io import save_weights
from mask2former.modeling import EoMTHead

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
QUICK_START_CONFIG = ROOT / "configs/shapes/panoptic/maskformer2_lite0.yaml"
EOMT_CONFIG = ROOT / "configs/coco/panoptic-segmentation/eomt/eomt_base_640_24ep.yaml"
OUTPUT = ROOT / "output" / "bench"

# The class layer is sharpened by this much, so that a winning class has a probability near 1, and
# no-object wins all but this fraction of the queries, as in a photo with some 20 segments.
_SHARPNESS = 8.0
_KEPT_FRACTION = 0.2


def panoptic_config(queries: int = 100, side: int = 800, **test: Any) -> CfgNode:
    """Return the R50 COCO panoptic config, all three outputs on; the semantic one is the best class
    of every pixel.

    Args:
        queries: Q.
        side: shortest edge that images are resized to, in pixels; the longest may be 10 times it.
        test: keys of MODEL.MASK_FORMER.TEST, such as SEMANTIC_ON=False.
    """
    cfg = load_config(CONFIG)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = queries
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = side, 10 * side
    switches = {"SEMANTIC_ON": True, "INSTANCE_ON": True, "PANOPTIC_ON": True}
    switches |= {"SEMANTIC_OUTPUT": "labels"} | test  # as the peer's
    for name, value in switches.items():
        cfg.MODEL.MASK_FORMER.TEST[name] = value
    return cfg


def quick_start_config() -> CfgNode:
    """Return the config that `make demo` trains."""
    cfg = load_config(QUICK_START_CONFIG)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.TIMM.PRETRAINED = "cpu", "", ""
    return cfg


def eomt_config(**test: Any) -> CfgNode:
    """Return the config of EoMT with a base ViT at 640 pixels, otherwise as `panoptic_config`."""
    cfg = load_config(EOMT_CONFIG)
    cfg.MODEL.DEVICE, cfg.MODEL.TIMM.PRETRAINED, cfg.MODEL.TIMM.NORMALIZE = "cpu", "", "config"
    cfg.MODEL.MASK_FORMER.PAD_VALUE = 0.0  # as the peer's
    for name, value in ({"SEMANTIC_OUTPUT": "labels"} | test).items():
        cfg.MODEL.MASK_FORMER.TEST[name] = value
    return cfg


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth picture with some grain, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (height // 64 + 2, width // 64 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(cells).resize((width, height), Image.BICUBIC))
    grain = rng.integers(-12, 13, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> None:
    """Fill all weights with noise of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or name.startswith("criterion"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(1 + 0.2 * noise.abs())
        elif tensor.dim() <= 1:
            tensor.copy_(0.1 * noise + name.endswith("weight"))
        elif "query_" in name:  # embeddings
            tensor.copy_(noise)
        elif "predictor.transformer" in name and name.endswith(
            ("out_proj.weight", "linear2.weight")
        ):
            # Small, or else all queries become alike: what they look at is much the same.
            tensor.copy_(0.1 * noise / tensor[0].numel() ** 0.5)
        else:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
    if _is_eomt(model):
        model.sem_seg_head.set_mask_probs([0.0] * len(model.sem_seg_head.blocks))


def _is_eomt(model: nn.Module) -> bool:
    return isinstance(model.sem_seg_head, EoMTHead)


@torch.no_grad()
def calibrate(model: nn.Module, image: np.ndarray) -> None:
    """Set the class layer so that a fifth of the queries find an object in an image (H, W, 3)."""
    head = model.sem_seg_head
    layer = head.class_embed if _is_eomt(model) else head.predictor.class_embed
    layer.weight.mul_(_SHARPNESS)
    layer.bias.zero_()
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    logits = class_logits(model, pixels)
    lead = logits[:, :-1].amax(1) - logits[:, -1]
    layer.bias[-1] = lead.quantile(1 - _KEPT_FRACTION)


def class_logits(model: nn.Module, image: Tensor) -> Tensor:
    """Return (Q, K+1) for an image (3, H, W)."""
    return model.predict(model.preprocess([image]).tensor)["pred_logits"][0].float()


def weights_file(cfg: CfgNode) -> Path:
    """Return a checkpoint of random, calibrated weights for a config; made once, then kept."""
    queries = cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES
    kind = cfg.MODEL.TIMM.NAME if "timm" in cfg.MODEL.BACKBONE.NAME else "r50"
    kind = "eomt" if cfg.MODEL.SEM_SEG_HEAD.NAME == "EoMTHead" else kind
    path = OUTPUT / "weights" / f"{kind}_{queries}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        model = build_on_cpu(cfg)
        randomise(model)
        calibrate(model, picture(256, 384))
        save_weights(model.state_dict(), path)
    return path


def peer_folder(cfg: CfgNode) -> Path:
    """Return the same weights in transformers' form; made once, then kept."""
    weights = weights_file(cfg)
    folder = weights.with_suffix("")
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory(dir=weights.parent) as temporary:
            made = Path(temporary) / "peer"
            ours_to_huggingface(str(weights), made, cfg)
            made.rename(folder)
    return folder


class Peer:
    """transformers' Mask2Former with its own image processor, from a file to three results.

    Attributes:
        model: Mask2FormerForUniversalSegmentation, in eval mode.
        processor: its Mask2FormerImageProcessor.
    """

    def __init__(self, cfg: CfgNode, device: str = "cpu") -> None:
        """
        Raises:
            ModuleNotFoundError: transformers is not installed.
        """
        from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

        folder = peer_folder(cfg)
        self.model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval().to(device)
        size = {"shortest_edge": cfg.INPUT.MIN_SIZE_TEST, "longest_edge": cfg.INPUT.MAX_SIZE_TEST}
        self.processor = Mask2FormerImageProcessor.from_pretrained(folder, size=size)
        self.labels_to_fuse = _stuff(cfg)

    def prepare(self, image: Image.Image) -> Tensor:
        """Return normalised pixels (1, 3, H, W)."""
        pixels = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return pixels.to(self.model.device)

    @torch.no_grad()
    def __call__(self, path: str | Path, **switches: bool) -> dict[str, Any]:
        """Return panoptic, instance and semantic results of an image file."""
        image = self.read(path)
        outputs = self.model(pixel_values=self.prepare(image))
        return self.post_process(outputs, image.size[::-1], **switches)

    @staticmethod
    def read(path: str | Path) -> Image.Image:
        """Return a decoded image file."""
        with Image.open(path) as image:
            return image.convert("RGB")

    def post_process(
        self, outputs: Any, size: tuple[int, int], count: int = 1, **switches: bool
    ) -> dict[str, Any]:
        """Return the results wanted of so many images, of size (H, W), with the processor's
        defaults."""
        processor, sizes = self.processor, [size] * count
        results = {}
        if switches.get("PANOPTIC_ON", True):
            results["panoptic_seg"] = processor.post_process_panoptic_segmentation(
                outputs, target_sizes=sizes, label_ids_to_fuse=self.labels_to_fuse
            )
        if switches.get("INSTANCE_ON", True):
            results["instances"] = processor.post_process_instance_segmentation(
                outputs, target_sizes=sizes
            )
        if switches.get("SEMANTIC_ON", True):
            results["sem_seg"] = processor.post_process_semantic_segmentation(
                outputs, target_sizes=sizes
            )
        return results


class EomtPeer(Peer):
    """transformers' EoMT with its own image processor, likewise."""

    def __init__(self, cfg: CfgNode, device: str = "cpu") -> None:
        """
        Raises:
            ModuleNotFoundError: transformers is not installed.
        """
        from transformers import EomtForUniversalSegmentation, EomtImageProcessor

        folder = peer_folder(cfg)
        self.model = EomtForUniversalSegmentation.from_pretrained(folder).eval().to(device)
        self.processor = EomtImageProcessor.from_pretrained(folder)
        self.labels_to_fuse = _stuff(cfg)
        self.precision = cfg.MODEL.MASK_FORMER.TEST.PRECISION

    @torch.no_grad()
    def __call__(self, path: str | Path, **switches: bool) -> dict[str, Any]:
        """Return panoptic, instance and semantic results of an image file."""
        image = self.read(path)
        pixels, device = self.prepare(image), self.model.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.model(pixel_values=pixels)
        processor, sizes = self.processor, [image.size[::-1]]
        return {
            "panoptic_seg": processor.post_process_panoptic_segmentation(
                outputs, target_sizes=sizes, stuff_classes=sorted(self.labels_to_fuse)
            ),
            "instances": processor.post_process_instance_segmentation(outputs, target_sizes=sizes),
            "sem_seg": processor.post_process_semantic_segmentation(outputs, target_sizes=sizes),
        }


def _stuff(cfg: CfgNode) -> set[int]:
    from detectron2.data import MetadataCatalog

    import mask2former.data  # noqa: F401  registers the datasets

    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    things = set(metadata.thing_dataset_id_to_contiguous_id.values())
    return set(range(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)) - things
