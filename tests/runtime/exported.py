"""A model as `Predictor` runs it, and the same one behind a file with metadata, for `Runtime`."""

import numpy as np
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former.config import get_config
from mask2former.predict import Predictor
from mask2former.runtime import Metadata, Runtime, metadata, model

NAMES = ("cup", "sky", "dog")


class PresetModelOfRuntime(nn.Module):
    """Gives the small model that a test has put here."""

    model: nn.Module | None = None

    def __new__(cls, cfg):
        return cls.model


if "PresetModelOfRuntime" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(PresetModelOfRuntime)


def config(channels: str = "RGB", sizes: tuple[int, int] = (40, 64)):
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "PresetModelOfRuntime"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = sizes
    cfg.INPUT.FORMAT = channels
    return cfg


class TorchSession:
    """Runs a model of torch in place of onnxruntime."""

    providers = ("CPUExecutionProvider",)

    def __init__(self, torch_model: nn.Module, written: Metadata, dtype: type[np.generic]):
        self.model = torch_model
        self.kind, self.embeddings = written.kind, written.embeddings
        self.dtype = dtype
        self.seen: list[tuple[int, ...]] = []

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        assert images.dtype == self.dtype
        self.seen.append(images.shape)
        images = torch.from_numpy(images).float()
        out = self.model.predict((images - self.model.pixel_mean) / self.model.pixel_std)
        found = [out["pred_logits"].numpy(), out["pred_masks"].numpy()]
        if self.kind != "clip":
            return found
        return [
            x[0] for x in [*found, *([out["pred_embeddings"].numpy()] if self.embeddings else [])]
        ]


def write_file(path, **values):
    """Write an ONNX file with nothing in it but metadata."""
    path.write_bytes(b"\x08\x08")  # ir_version 8
    known = {
        "kind": "image",
        "class_names": NAMES,
        "thing_ids": (0, 2),
        "channel_order": "RGB",
        "pixel_mean": (100.0, 110.0, 120.0),
        "pixel_std": (50.0, 60.0, 70.0),
        "size_divisibility": 32,
        "min_size": 40,
        "max_size": 64,
        "topk": 5,
        "semantic_on": True,
        "panoptic_on": True,
        "instance_on": True,
        "resize_before_merge": True,
    }
    return metadata.write(path, Metadata(**known | values))


def pair(torch_model, tmp_path, monkeypatch, *, dtype=np.float32, predictor=Predictor, **values):
    """Return the predictor and the runtime of one model."""
    written = write_file(tmp_path / "model.onnx", **values)
    session = TorchSession(torch_model.eval(), written, dtype)
    monkeypatch.setattr(model, "Session", lambda *args: session)
    monkeypatch.setattr(PresetModelOfRuntime, "model", torch_model)
    cfg = config(written.channel_order, (written.min_size, written.max_size))
    return predictor(cfg, "", array_format="RGB"), Runtime(tmp_path / "model.onnx")


def image(height: int = 50, width: int = 70, seed: int = 0) -> np.ndarray:
    """Return a picture of blobs."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (1, 3, 4, 5))
    resized = nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bicubic")
    return resized[0].clamp(0, 255).permute(1, 2, 0).byte().numpy()
