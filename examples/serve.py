#!/usr/bin/env python
"""Serve a model over HTTP with LitServe: photos in, segments as json out, several at a time.

    python examples/serve.py --config-file CONFIG --weights model_final.pth --batch 8
    curl -F image=@street.jpg http://127.0.0.1:8000/predict
    curl http://127.0.0.1:8000/health

Needs: pip install litserve. Requests that come within --wait seconds share a batch.
"""

import argparse
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mask2former  # noqa: F401 (first, before torch is loaded: see mask2former/threads.py)

# isort: split
import litserve
import numpy as np
from fastapi.responses import JSONResponse

from mask2former import Predictor
from mask2former.errors import SHOWN
from mask2former.predict.configs import predict_config
from mask2former.results.segments import segments_of

Photo = np.ndarray | str  # a photo, or why there is none


class Segmentation(litserve.LitAPI):
    """LitServe's side of a model: one of it on each device."""

    def __init__(self, args: argparse.Namespace):
        super().__init__(max_batch_size=args.batch, batch_timeout=args.wait)
        self.args = args

    def setup(self, device: str) -> None:
        """Load the model, in the process that runs it."""
        weights = ["MODEL.WEIGHTS", self.args.weights]
        cfg = predict_config(self.args.config_file, weights, max_pixels=self.args.max_pixels)
        self.predictor = Predictor(cfg, device=device, array_format="RGB")

    def decode_request(self, request: litserve.Request) -> Photo:
        """Return the photo of a form, (H, W, 3), uint8, RGB, or why there is none.

        Nothing is raised: LitServe would answer all requests of the batch with it.
        """
        upload = request.get("image") if isinstance(request, Mapping) else None  # or any json
        if not hasattr(upload, "file"):
            return 'expected a form with a file named "image"'
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image"
            path.write_bytes(upload.file.read())
            try:
                return self.predictor.to_rgb(path)
            except SHOWN as error:
                return str(error).replace(str(path), "image")

    def batch(self, photos: list[Photo]) -> list[Photo]:
        """Return the photos as they are: their sizes may differ."""
        return photos

    def unbatch(self, results: list[Any]) -> list[Any]:
        """Return the results as they are."""
        return results

    def predict(self, photos: list[Photo] | Photo) -> Any:
        """Return what the model sees in each photo, or why there is none; a list or one."""
        several = photos if isinstance(photos, list) else [photos]
        good = [photo for photo in several if not isinstance(photo, str)]
        found = iter(self.predictor(good))
        results = [photo if isinstance(photo, str) else next(found) for photo in several]
        return results if isinstance(photos, list) else results[0]

    def encode_response(self, prediction: dict[str, Any] | str) -> litserve.Response:
        """Return segments by kind, each with its name, score, area, box and RLE."""
        if isinstance(prediction, str):
            return JSONResponse({"detail": prediction}, status_code=422)
        found = segments_of(prediction, self.predictor.metadata)
        least = self.args.confidence_threshold
        return {
            kind: [s.to_json() for s in some if s.score is None or s.score >= least]
            for kind, some in found.items()
        }


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines, too")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=8, help="photos together (default 8)")
    parser.add_argument("--wait", type=float, default=0.02, help="for a batch, in seconds")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--confidence-threshold", type=float, default=0.5, help="of instances")
    parser.add_argument("--max-upload", type=int, default=20, metavar="MB")
    parser.add_argument("--max-pixels", type=int, default=16_000_000)
    parser.add_argument("--timeout", type=float, default=60, help="of a request, in seconds")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    server = litserve.LitServer(
        Segmentation(args),
        accelerator=args.accelerator,
        timeout=args.timeout,
        max_payload_size=args.max_upload << 20,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else its workers outlive it
    server.run(host=args.host, port=args.port, generate_client_file=False, num_api_servers=1)
