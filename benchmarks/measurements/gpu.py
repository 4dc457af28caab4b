"""The whole model on a GPU in bfloat16: images per second, training step, peak memory.

Without a GPU there is nothing to measure, and no row. Inputs are on the GPU before the clock
starts: what is timed is the model, with or without the making of the three results.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from PIL import Image

from mask2former import Predictor

from .. import cases
from ..memory import peak_while
from ..models import Peer, panoptic_config, picture, weights_file
from ..timing import Row, Work, compare

PEER = "transformers"
SIZE, QUICK_SIZE = (800, 1216), (320, 480)
BATCHES = (1, 8)
STEP = {"side": 1024, "size": 4, "targets": 20, "amp": True}
WAYS = ("eager", "CUDA graphs", "compiled")
MIN_ROUNDS = 10  # a call takes milliseconds


def measure(rounds: int, quick: bool = False) -> Iterable[Row]:
    """Return all rows of this topic as they are measured; `quick` takes small images."""
    if cases.DEVICE != "cuda":
        return []
    size = QUICK_SIZE if quick else SIZE
    step = STEP | {"side": 256} if quick else STEP
    return _rows(size, step, rounds)


def _rows(size: tuple[int, int], step: dict[str, Any], rounds: int) -> Iterator[Row]:
    for way in WAYS:
        yield from images(size, rounds, way)
    yield from training(step, rounds)


def images(size: tuple[int, int], rounds: int, way: str) -> list[Row]:
    """Return images per second of the network alone and with three results, and the peak memory.

    Args:
        size: (H, W) of the images.
        rounds: min. pairs.
        way: one of WAYS; the peer has no graphs of its own, and runs eagerly beside ours.
    """
    graphs = way == "CUDA graphs"
    cfg = panoptic_config(side=min(size), PRECISION="bf16", CUDA_GRAPHS=graphs)
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device=cases.DEVICE)
    peer = Peer(cfg, cases.DEVICE)
    if way == "compiled":
        predictor.model.predict = torch.compile(predictor.model.predict, dynamic=False)
        peer.model = torch.compile(peer.model, dynamic=False)
    rows = []
    for batch in BATCHES:
        pictures = [picture(*size, seed) for seed in range(batch)]
        ours, theirs = _our_works(predictor, pictures), _their_works(peer, pictures)
        for part, mine, other in zip(("network alone", "with three results"), ours, theirs):
            what = f"image {size[0]}x{size[1]}, batch {batch}, bf16 {way}, {cases.DEVICE}, {part}"
            rows.append(_images_per_second(what, mine, other, batch, rounds))
        if way == "eager":
            rows.append(_memory(f"{what}, peak memory", ours[1], theirs[1]))
    return rows


def training(step: dict[str, Any], rounds: int) -> list[Row]:
    """Time and peak memory of a step under autocast to bfloat16."""
    ours, theirs = cases.our_step(**step), cases.transformers_step(**step)
    what = (
        f"training step, {step['side']}x{step['side']} crops, batch {step['size']}, "
        f"{step['targets']} targets an image, bf16 autocast, {cases.DEVICE}"
    )
    time = compare(what, ours, theirs, max(rounds, MIN_ROUNDS), peer_name=PEER)
    return [time, _memory(f"{what}, peak memory", ours, theirs)]


def _images_per_second(what: str, ours: Work, theirs: Work, batch: int, rounds: int) -> Row:
    row = compare(what, ours, theirs, max(rounds, MIN_ROUNDS), peer_name=PEER)
    return row | {"unit": "1/s", "ours": batch / row["ours"], "peer": batch / row["peer"]}


def _memory(what: str, ours: Work, theirs: Work) -> Row:
    mine, other = peak_while(ours) / 1e9, peak_while(theirs) / 1e9
    row = {"what": what, "unit": "GB", "ours": mine, "peer": other, "peer_name": PEER}
    return row | {"ratio": mine / other}


def _our_works(predictor: Predictor, pictures: list) -> tuple[Work, Work]:
    """Return the network on a batch, and the same with three results of each image."""
    model = predictor.model
    inputs = [predictor._prepare_array(array) for array in pictures]
    inputs = [x | {"image": x["image"].to(cases.DEVICE)} for x in inputs]
    canvas = model.preprocess([x["image"] for x in inputs]).tensor
    return _no_grad(lambda: model._predict_or_replay(canvas)), _no_grad(lambda: model(inputs))


def _their_works(peer: Peer, pictures: list) -> tuple[Work, Work]:
    canvas = torch.cat([peer.prepare(Image.fromarray(array)) for array in pictures])
    size = pictures[0].shape[:2]

    def network() -> Any:
        with torch.autocast(cases.DEVICE, torch.bfloat16):
            return peer.model(pixel_values=canvas)

    def results() -> Any:
        outputs = network()
        for name in ("class_queries_logits", "masks_queries_logits"):
            outputs[name] = outputs[name].float()  # as its post-processing wants them
        return peer.post_process(outputs, size, len(pictures))

    return _no_grad(network), _no_grad(results)


def _no_grad(work: Callable[[], Any]) -> Work:
    return torch.no_grad()(work)
