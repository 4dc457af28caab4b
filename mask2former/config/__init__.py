"""The config keys that this project adds to detectron2's, and reading of config files."""

from .keys import add_maskformer2_config, add_maskformer2_video_config
from .loading import get_config, load_config, merge_file

__all__ = [
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "get_config",
    "load_config",
    "merge_file",
]
