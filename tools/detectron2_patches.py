"""What newer libraries removed from under detectron2 0.6, and what to write instead.

numpy 2, Pillow 10 and later, setuptools 82 and PyTorch 2 dropped or deprecated the names that are
replaced here. Each patch states how often it must match, so that none is lost in silence.
"""

import re
from dataclasses import dataclass

COMPILED_MODULE = '''"""Stands in for the compiled module, which this detectron2 lacks."""

_OPERATORS = (
    "COCOevalAccumulate",
    "COCOevalEvaluateImages",
    "InstanceAnnotation",
    "box_iou_rotated",
    "deform_conv_backward_filter",
    "deform_conv_backward_input",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "nms_rotated",
    "roi_align_rotated_backward",
    "roi_align_rotated_forward",
)


def get_compiler_version() -> str:
    return "none (pure Python installation)"


def get_cuda_version() -> str:
    return "none (pure Python installation)"


def has_cuda() -> bool:
    return False


def _missing(name):
    def operator(*args, **kwargs):
        raise NotImplementedError(
            f"detectron2._C.{name} is a compiled operator and this detectron2 is a pure Python "
            "installation without it: build detectron2 from source where you need it"
        )

    operator.__name__ = name
    return operator


for _name in _OPERATORS:
    globals()[_name] = _missing(_name)
'''


class InstallError(RuntimeError):
    """The archive, a patch or pip is not as expected; the message says what to do."""


@dataclass(frozen=True)
class Patch:
    """One replacement: ``pattern`` (regular expression) must match ``count`` times in ``path``."""

    path: str
    pattern: str
    replacement: str
    count: int
    reason: str

    def apply(self, text: str) -> str:
        """Return ``text`` patched; raise InstallError if the pattern matched another number."""
        patched, found = re.subn(self.pattern, self.replacement, text)
        if found != self.count:
            raise InstallError(
                f"patch '{self.reason}' of {self.path} expected {self.count} matches of "
                f"{self.pattern!r} and found {found}: is this the file of pb1-detectron2 0.6?"
            )
        return patched


def _numpy_types(path: str, count: int) -> Patch:
    # \b keeps np.bool_, np.int64, np.float32 and the like.
    return Patch(path, r"\bnp\.(bool|int|float|object|str)\b", r"\1", count, "numpy type aliases")


def _warning(path: str, count: int) -> Patch:
    return Patch(path, r"logger\.warn\(", "logger.warning(", count, "Logger.warn")


PATCHES = (
    _numpy_types("detectron2/data/build.py", 2),
    _numpy_types("detectron2/data/datasets/pascal_voc.py", 1),
    _numpy_types("detectron2/evaluation/pascal_voc_evaluation.py", 2),
    _numpy_types("detectron2/evaluation/sem_seg_evaluation.py", 7),
    _numpy_types("detectron2/structures/masks.py", 3),
    _numpy_types("detectron2/utils/video_visualizer.py", 1),
    _numpy_types("detectron2/utils/visualizer.py", 3),
    _warning("detectron2/data/datasets/coco.py", 2),
    _warning("detectron2/evaluation/coco_evaluation.py", 2),
    _warning("detectron2/evaluation/lvis_evaluation.py", 2),
    _warning("detectron2/evaluation/sem_seg_evaluation.py", 2),
    Patch(
        "detectron2/data/transforms/transform.py",
        r"\bImage\.LINEAR\b",
        "Image.BILINEAR",
        1,
        "Image.LINEAR",
    ),
    Patch(
        "detectron2/layers/mask_ops.py",
        r"np\.array\(mask, copy=False\)",
        "np.asarray(mask)",
        1,
        "np.array(copy=False)",
    ),
    Patch(
        "detectron2/modeling/anchor_generator.py",
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        1,
        "torch.meshgrid without indexing",
    ),
    Patch(
        "detectron2/projects/panoptic_deeplab/post_processing.py",
        r"(torch\.arange\(width, .*\),\n)(    \))",
        r'\1        indexing="ij",\n\2',
        1,
        "torch.meshgrid without indexing",
    ),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r"import pkg_resources\n",
        "",
        1,
        "import of pkg_resources",
    ),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r'pkg_resources\.resource_filename\(\s*"detectron2\.model_zoo", (.*)\n    \)',
        r"os.path.join(os.path.dirname(os.path.abspath(__file__)), \1)",
        1,
        "pkg_resources.resource_filename",
    ),
    Patch(
        "detectron2/layers/nms.py",
        r"return torch\.ops\.detectron2\.nms_rotated\(",
        "from detectron2 import _C\n\n    return _C.nms_rotated(",
        1,
        "clear error of nms_rotated",
    ),
    Patch(
        "detectron2/evaluation/coco_evaluation.py",
        r"from detectron2\.evaluation\.fast_eval_api import COCOeval_opt\n",
        "",
        1,
        "import of the compiled COCOeval",
    ),
    Patch(
        "detectron2/evaluation/coco_evaluation.py",
        r"\(COCOeval_opt if use_fast_impl else COCOeval\)",
        "COCOeval",
        1,
        "COCOeval of pycocotools instead of the compiled one",
    ),
)
