#!/usr/bin/env python
"""Draw the shapes dataset, on which a small model can be trained in minutes on a CPU.

With --video, clips of moving shapes in place of pictures.
"""

from mask2former.data.preparation.common import call, new_parser
from mask2former.data.synthetic import write_shapes


def main() -> None:
    parser = new_parser(__doc__, "--output", "where shapes/ is made")
    parser.add_argument("--video", action="store_true", help="clips, in shapes_video/")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument("--train", type=int, help="training images (2000) or clips (1000)")
    parser.add_argument("--val", type=int, help="validation images (200) or clips (40)")
    parser.add_argument("--size", type=int, default=128, help="side of an image, pixels")
    parser.add_argument("--frames", type=int, help="of a clip (24)")
    # What is not given has its default in write_shapes.
    arguments = {k: v for k, v in vars(parser.parse_args()).items() if v is not None}
    if "frames" in arguments and not arguments["video"]:
        parser.error("--frames needs --video")
    made = call(write_shapes, **arguments)
    folder = arguments["output"] / ("shapes_video" if arguments["video"] else "shapes")
    print(f"{folder}: {'drawn' if made else 'there already'}")


if __name__ == "__main__":
    main()
