#!/usr/bin/env python
"""Draw what DAT looks at from one pixel of an image, as the figure of its paper does.

    draw_dat_keys.py --input photo.jpg --point 320 240 --output keys.png \
        MODEL.WEIGHTS output/model_final.pth

Left, a line from where each key would be to where it is sampled, in a colour for each group of
heads. Right, the --count keys with the most attention of the pixel at the star, the heaviest
largest and reddest. There is a row for the last such layer of each stage, or for the layers that
--layer names.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from dat_drawing.keys import LayerKeys, find_keys
from dat_drawing.pictures import draw_importance, draw_offsets
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_backbone
from PIL import Image
from torch import nn

from mask2former import load_config
from mask2former.checkpoints.loading import load_into
from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.data.geometry import at_least_a_pixel
from mask2former.errors import UserError, one_line
from mask2former.formats.atomic import atomic_path
from mask2former.formats.images import read_image
from mask2former.modeling import D2DAT

CONFIG = "configs/coco/panoptic-segmentation/dat/maskformer2_dat_tiny_bs16_50ep.yaml"


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default=CONFIG, help="a config with the backbone D2DAT")
    parser.add_argument("--input", required=True, type=Path, help="the image")
    parser.add_argument(
        "--point", nargs=2, type=float, metavar=("X", "Y"), help="in pixels; default: the middle"
    )
    parser.add_argument("--output", default=Path("keys.png"), type=Path)
    parser.add_argument("--layer", action="append", help="as stages.2.attns.1; may be repeated")
    parser.add_argument("--size", type=int, default=320, help="shortest side for the network")
    parser.add_argument("--count", type=int, default=100, help="keys with attention to draw")
    parser.add_argument("--random", action="store_true", help="random weights instead of WEIGHTS")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes to the config")
    return parser.parse_args(args)


def main(args: argparse.Namespace) -> list[LayerKeys]:
    cfg = load_config(args.config_file, args.opts)
    backbone = load_backbone(cfg, args.random)
    original = read_image(args.input)
    resize = ResizeShortestEdge(args.size, 4 * args.size).get_transform(original)
    resize = at_least_a_pixel(resize)
    image = np.ascontiguousarray(resize.apply_image(original))
    scale = image.shape[1] / original.shape[1], image.shape[0] / original.shape[0]
    x, y = args.point or (original.shape[1] / 2, original.shape[0] / 2)
    pixels = torch.as_tensor(image.astype("float32")).permute(2, 0, 1)
    if cfg.INPUT.FORMAT == "BGR":
        pixels = pixels.flip(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    found = find_keys(backbone, (pixels - mean) / std, x * scale[0], y * scale[1])
    chosen = choose(found, args.layer)
    rows = [
        np.hstack([draw_offsets(image, keys), draw_importance(image, keys, args.count)])
        for keys in chosen
    ]
    with atomic_path(args.output) as temporary:
        Image.fromarray(np.vstack(rows)).save(temporary, format="PNG")
    for keys in chosen:
        print(f"{keys.name} ({keys.feature}): {keys.places.shape[1]} keys in each group")
    print(f"Wrote {args.output}")
    return chosen


def load_backbone(cfg: CfgNode, random: bool) -> D2DAT:
    """Build the backbone of a config with weights of it, or of a whole model."""
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    if not isinstance(backbone, D2DAT):
        raise UserError(f"the backbone must be D2DAT, but is {cfg.MODEL.BACKBONE.NAME}")
    if not random:
        weights, _ = load_weights(cfg.MODEL.WEIGHTS)
        own = {n: w for n, w in weights.items() if n.startswith("backbone.")}
        load_into(nn.ModuleDict({"backbone": backbone}), own or weights, source=cfg.MODEL.WEIGHTS)
    return backbone.eval()


def choose(found: list[LayerKeys], names: list[str] | None) -> list[LayerKeys]:
    """Pick layers by name, or the last of each stage."""
    by_name = {keys.name: keys for keys in found}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise UserError(f"there is no layer {unknown[0]}; there are {', '.join(by_name)}")
    last = {keys.feature: keys for keys in found}
    return [by_name[name] for name in names] if names else list(last.values())


if __name__ == "__main__":
    with one_line("draw_dat_keys.py"):
        main(parse_args())
