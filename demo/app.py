#!/usr/bin/env python
"""A page in the browser to try a model on: images, videos, thresholds, files to take along.

python demo/app.py --config-file CONFIG --opts MODEL.WEIGHTS model_final.pth
python demo/app.py --config-file CONFIG --folder photos --port 8000 --opts ...
python demo/app.py --config-file CONFIG_OF_A_MASK_CLASSIFIER --sam-weights sam-vit-base --opts ...
"""

import argparse
import sys
import warnings
from collections.abc import Sequence

# Used by fvcore and detectron2, in part while they are imported, which is why this comes first.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
# ruff: noqa: E402

# isort: off
import mask2former  # noqa: F401 (first, before torch is loaded: see mask2former/threads.py)
from detectron2.utils.logger import setup_logger

# isort: on
from mask2former.errors import one_line
from mask2former.predict.configs import predict_config
from mask2former.predict.page import Address, Limits, Photos, Service, build_page, build_predictor
from mask2former.predict.page.launching import files_of_page, import_gradio, serve


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    limits, address = Limits(), Address()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="yaml file of the model")
    parser.add_argument("--folder", help="of photos that the page offers")
    parser.add_argument("--sam-weights", metavar="DIR", help="of SAM, for a model that names masks")
    parser.add_argument(
        "--host",
        default=address.host,
        help=f"0.0.0.0 for other machines, too (default {address.host}: this one alone)",
    )
    parser.add_argument(
        "--port", type=int, default=address.port, help=f"0 for any (default {address.port})"
    )
    parser.add_argument(
        "--max-upload",
        type=int,
        default=limits.upload >> 20,
        metavar="MB",
        help=f"of a file (default {limits.upload >> 20})",
    )
    parser.add_argument(
        "--max-pixels", type=int, default=limits.pixels, help=f"(default {limits.pixels:,})"
    )
    parser.add_argument(
        "--max-frames", type=int, default=limits.frames, help=f"(default {limits.frames})"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... of the config, last"
    )
    args = parser.parse_args(argv)
    for name in ("max_upload", "max_pixels", "max_frames"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is 1 or more, got {getattr(args, name)}")
    return args


def main(argv: Sequence[str] | None = None, *, wait: bool = True) -> int:
    """Run the script; return 0 after Ctrl-C, and end with status 2 after an error."""
    args = parse_args(argv)
    setup_logger(name="mask2former", abbrev_name="m2f")
    with one_line("app.py", status=2), files_of_page() as folder:
        import_gradio()
        address = Address(args.host, args.port)
        address.free_port()  # before the model takes its time
        photos = Photos(args.folder)
        limits = Limits(args.max_upload << 20, args.max_pixels, args.max_frames)
        cfg = predict_config(args.config_file, args.opts, max_pixels=args.max_pixels)
        service = Service(build_predictor(cfg, args.sam_weights), limits, photos, folder)
        serve(build_page(service), address, limits.upload, wait=wait)
    return 0


if __name__ == "__main__":
    sys.exit(main())
