"""Package of mask2former: ``pip install .`` beside your own torch, torchvision and detectron2.

torch, torchvision, detectron2 and OpenCV are left out of the requirements on purpose: each comes in
several builds (CUDA, ROCm, CPU; headless or not), and asking for one here could replace yours.
``make setup`` installs a full, pinned environment.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Copies configs/ into the wheel as mask2former/_configs, where model_zoo finds it."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "mask2former" / "_configs"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ROOT / "configs", target, ignore=shutil.ignore_patterns("__pycache__"))


def version() -> str:
    """Return __version__ of mask2former/__init__.py, which cannot be imported at build time."""
    text = (ROOT / "mask2former" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('mask2former/__init__.py has no line __version__ = "..."')
    return found.group(1)


EXTRAS = {
    "app": ["gradio>=6.0", "av>=14.1"],
    "tiles": ["imagecodecs>=2024.9", "tifffile>=2024.9"],
    "timm": ["timm>=1.0"],
    "video": ["av>=14.1"],
    "eval": ["faster-coco-eval>=1.6", "cityscapesscripts>=2.2", "shapely>=2.0"],
    "lvis": ["lvis>=0.5.3"],
    "tracks": ["trackeval>=1.3"],
    "hf": ["transformers>=4.40"],
    "parquet": ["pyarrow>=17"],
    "ray": ["pyarrow>=17", "ray[data]>=2.40"],
    "runtime": ["onnxruntime>=1.18"],
    "export": ["onnx>=1.16", "onnxscript>=0.5", "onnxruntime>=1.18"],
    "openvino": ["openvino>=2025.0"],
    "mlflow": ["mlflow-skinny>=2.10"],
    "wandb": ["wandb>=0.16"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS["test"] = [
    "hypothesis",
    "import-linter>=2.0",
    "mypy",
    "psutil",
    "pytest>=8",
    "pytest-timeout",
    "pytest-xdist",
    "ruff",
]

setup(
    name="mask2former",
    version=version(),
    description="Mask2Former: image and video segmentation, as an extension of detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["mask2former", "mask2former.*", "mask2former_video"]),
    package_data={"": ["*.json", "categories/*.json"]},
    install_requires=[
        "numpy>=1.26",
        "pillow>=10",
        "pycocotools>=2.0.6",
        "pyyaml>=6",
        "safetensors>=0.4",
        "scipy>=1.11",
        "tabulate",
        "tqdm",
    ],
    extras_require=EXTRAS,
    cmdclass={"build_py": BuildWithConfigs},
)
