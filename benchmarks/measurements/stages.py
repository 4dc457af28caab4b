"""What the stages of inference take, from the file to the written results."""

import io
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from mask2former import Predictor
from mask2former.formats.images import read_image
from mask2former.formats.rle import encode_masks

from .. import cases
from ..models import Peer, panoptic_config, weights_file
from ..timing import Row, seconds

PEER = "transformers"


def measure_stages(size: tuple[int, int], rounds: int) -> list[Row]:
    """Measure ours beside the peer's from the file to three results, in all and by stage.

    Writing the results is measured of ours alone, and not counted in the whole.
    """
    cfg = panoptic_config(side=min(size))
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device=cases.DEVICE)
    peer = Peer(cfg, cases.DEVICE)
    path = str(cases.image_file(*size))
    whole = f"image {size[0]}x{size[1]}, file to three results, fp32 eager"
    ours, theirs = defaultdict(list), defaultdict(list)
    for i in range(rounds + 1):
        mine, results = _our_stages(predictor, path)
        other = _their_stages(peer, path)
        if i == 0:  # does not count
            continue
        for values, new in ((ours, mine), (theirs, other)):
            values[whole].append(sum(new.values()))
            for stage, value in new.items():
                values[f"stage: {stage}"].append(value)
        ours["stage: write"].append(seconds(lambda r=results: write(r)))
    rows = []
    for stage, values in ours.items():
        row = {"what": stage, "unit": "s", "ours": statistics.median(values), "rounds": rounds}
        if stage in theirs:
            row |= {"peer": statistics.median(theirs[stage]), "peer_name": PEER}
            row["ratio"] = statistics.median(b / a for a, b in zip(values, theirs[stage]))
        rows.append(row)
    rows[0]["min_ratio"] = 2.0
    rows[-2]["min_ratio"] = 2.5  # of post-processing, with a map of labels as the peer's
    return rows


def _our_stages(predictor: Predictor, path: str) -> tuple[dict[str, float], dict[str, Any]]:
    head = predictor.model.sem_seg_head
    modules = {
        "backbone": predictor.model.backbone,
        "pixel decoder": head.pixel_decoder,
        "transformer decoder": head.predictor,
    }
    start = time.perf_counter()
    image = read_image(path, predictor.cfg.INPUT.FORMAT)
    read = time.perf_counter() - start
    # Arrays come in the order BGR, unless the predictor was told otherwise.
    image = image[:, :, ::-1] if predictor.cfg.INPUT.FORMAT == "RGB" else image
    resize = seconds(lambda: predictor.prepare(image))
    with module_times(modules) as times:
        start = time.perf_counter()
        results = predictor(image)
        total = time.perf_counter() - start
    return _stage_table(read, resize, times, total - resize), results


def _their_stages(peer: Peer, path: str) -> dict[str, float]:
    pixel_level = peer.model.model.pixel_level_module
    modules = {
        "backbone": pixel_level.encoder,
        "pixel decoder": pixel_level.decoder,
        "transformer decoder": peer.model.model.transformer_module,
    }
    start = time.perf_counter()
    image = peer.read(path)
    read = time.perf_counter() - start
    start = time.perf_counter()
    pixels = peer.prepare(image)
    resize = time.perf_counter() - start
    with module_times(modules) as times, torch.no_grad():
        start = time.perf_counter()
        peer.post_process(peer.model(pixel_values=pixels), image.size[::-1])
        total = time.perf_counter() - start
    return _stage_table(read, resize, times, total)


def _stage_table(
    read: float, resize: float, modules: dict[str, float], total: float
) -> dict[str, float]:
    rest = total - sum(modules.values())
    return {"read and decode": read, "resize": resize, **modules, "post-processing": rest}


@contextmanager
def module_times(modules: dict[str, nn.Module]) -> Iterator[dict[str, float]]:
    """Add up the seconds that calls of modules take; a method `forward_features` counts too."""
    times = dict.fromkeys(modules, 0.0)
    replaced = []

    def timed(name: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name] += time.perf_counter() - start
            return result

        return call

    for name, module in modules.items():
        method = "forward_features" if hasattr(module, "forward_features") else "forward"
        setattr(module, method, timed(name, getattr(module, method)))
        replaced.append((module, method))
    try:
        yield times
    finally:
        for module, method in replaced:
            delattr(module, method)  # the class's own shows again


def write(results: dict[str, Any]) -> int:
    """Encode results as they are stored: a panoptic PNG and RLEs in json; returns the bytes."""
    size = 0
    if "panoptic_seg" in results:
        ids, segments = results["panoptic_seg"]
        file = io.BytesIO()
        Image.fromarray(ids.cpu().numpy().astype(np.uint8)).save(file, format="png")
        size += len(file.getvalue()) + len(json.dumps(segments))
    if "instances" in results:
        rles = encode_masks(results["instances"].pred_masks.cpu())
        size += len(json.dumps([str(rle) for rle in rles]))
    return size
