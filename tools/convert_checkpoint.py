#!/usr/bin/env python3
"""Convert checkpoints between this project, Hugging Face, torchvision, timm and official Swin.

    convert_checkpoint.py --from ours --to hf --config CONFIG.yaml model_final.pkl FOLDER
    convert_checkpoint.py --from hf --to ours FOLDER model.safetensors    # and model.yaml
    convert_checkpoint.py --from torchvision --to ours resnet50.pth R-50.pkl
    convert_checkpoint.py --from ours --to ours model_final.pkl model_final.safetensors

Folders of Hugging Face's are those of Mask2Former and of EoMT. The suffix of an output of ours
chooses its format: .safetensors, .pth or .pkl. With --check IMAGE both models run on the image, and
the largest difference of their outputs is printed.
"""

import argparse

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from torch.nn import functional as F

from mask2former import load_config
from mask2former.checkpoints.average_entry import ENTRY, for_use
from mask2former.checkpoints.bridges import check, convert
from mask2former.checkpoints.loading import load_into
from mask2former.checkpoints.storage.weights_io import (
    load_weights,
    read_checkpoint,
    save_weights,
)
from mask2former.classes import Classes
from mask2former.data.geometry import at_least_a_pixel
from mask2former.errors import one_line
from mask2former.formats.images import read_image

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ["ours", "hf", *convert.BACKBONES]
    parser.add_argument("--from", dest="source", choices=kinds, required=True)
    parser.add_argument("--to", dest="target", choices=["ours", "hf"], required=True)
    parser.add_argument("--config", help="config of the model; hf to ours can do without")
    parser.add_argument("--check", metavar="IMAGE", help="compare the outputs on this image")
    parser.add_argument("input", help="checkpoint, or a folder of Hugging Face's")
    parser.add_argument("output", help="file, or a folder with --to hf")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to the config")
    parsed = parser.parse_args(args)
    if parsed.target == "hf" and parsed.source != "ours":
        parser.error(f"--from {parsed.source} --to hf: convert to ours first")
    if parsed.target == "hf" and not parsed.config:
        parser.error("--to hf needs the --config of the checkpoint")
    if parsed.check and parsed.source == parsed.target:
        parser.error("--check needs two libraries to compare")
    return parsed


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.opts) if args.config else None
    model = None
    if args.target == "hf":
        model, cfg = convert.ours_to_huggingface(args.input, args.output, cfg)
    elif args.source == "hf":
        model, cfg = convert.huggingface_to_ours(args.input, args.output, cfg)
    elif args.source == "ours":
        content = read_checkpoint(args.input)
        if cfg is not None:
            content = for_use(cfg, content, args.input)
        elif ENTRY in content:
            print("Its moving average is left out; --config with the config of its run takes it")
        author, classes = str(content.get("__author__", "")), Classes.from_checkpoint(content)
        save_weights(content["model"], args.output, author=author, classes=classes)
    else:
        convert.backbone_to_ours(args.input, args.output, args.source)
    print(f"Wrote {args.output}")
    if args.check:
        for difference in compare(args, model, cfg):
            print(difference)


def compare(
    args: argparse.Namespace, model: torch.nn.Module | None, cfg: CfgNode | None
) -> list[check.Difference]:
    """Run both models on the image of --check."""
    image = load_image(args.check, cfg)
    if args.target == "hf":
        return check.compare_huggingface(model, args.output, image)
    converted, _ = load_weights(args.output)
    if args.source == "hf":
        load_into(model, converted, min_match=1.0)
        return check.compare_huggingface(model, args.input, image)
    weights, _ = load_weights(args.input)
    if args.source == "swin":
        return check.compare_swin(converted, weights, image)
    return check.compare_resnet(converted, weights, image, args.source)


def load_image(path: str, cfg: CfgNode | None) -> torch.Tensor:
    """Read an image as the model would see it: (1, 3, H, W), padded as the model pads it."""
    shortest, longest, multiple = 800, 1333, 32
    if cfg is not None:
        shortest, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        multiple = max(cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY, multiple)
    mean, std = (MEAN, STD) if cfg is None else (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    array = read_image(path)
    resize = ResizeShortestEdge(shortest, longest).get_transform(array)
    array = at_least_a_pixel(resize).apply_image(array)
    image = torch.as_tensor(array.astype("float32")).permute(2, 0, 1)
    image = (image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % multiple, 0, -height % multiple))[None]


if __name__ == "__main__":
    with one_line("convert_checkpoint.py"):
        main(parse_args())
