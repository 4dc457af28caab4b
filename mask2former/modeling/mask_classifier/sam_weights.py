"""Read Segment Anything from a local folder, through the package transformers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MissingPackageError, UserError
from ...formats.json_files import read_json

if TYPE_CHECKING:
    from transformers import SamModel

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def load_sam(folder: str | os.PathLike[str]) -> "SamModel":
    """Read a SAM model (Kirillov et al. 2023), of any size: ViT-B, ViT-L, ViT-H.

    Nothing is downloaded, and weights in pickles are not read.

    Args:
        folder: `config.json` and `model.safetensors` in the layout of transformers, as
            `facebook/sam-vit-base` on the Hugging Face hub has them.

    Returns:
        the model, in eval mode, in float32, without gradients.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: the folder or one of its files is missing.
        UserError: a model of another kind, or weights that do not fit its config.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"SAM weights: {path} has no config.json; expected a folder with config.json and "
            "model.safetensors, as facebook/sam-vit-base has them."
        )
    config = read_json(path / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "sam":
        raise UserError(
            f"{path / 'config.json'}: expected a SAM model (model_type 'sam', such as SAM ViT-B, L "
            f"or H), got {kind!r}, another architecture; take facebook/sam-vit-base, -large "
            "or -huge."
        )
    if not any((path / name).is_file() for name in _WEIGHTS):
        raise FileNotFoundError(
            f"{path}: expected model.safetensors, which is missing. Weights in pickles (.bin, "
            ".pth) are not read, as they can run code: get the safetensors file of the same model."
        )
    return _read(path)


def _read(path: Path) -> "SamModel":
    try:
        import transformers
        from safetensors import SafetensorError  # which transformers needs
    except ImportError as error:
        raise MissingPackageError(
            "SAM needs the package transformers: pip install 'mask2former[hf]'"
        ) from error
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        model, info = transformers.SamModel.from_pretrained(
            path, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: the weights do not fit config.json, or are damaged; are both files of the "
            f"same variant of SAM? ({error})"
        ) from error
    finally:
        if shown:
            log.enable_progress_bar()
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(
            f"{path}: model.safetensors lacks {len(missing)} of the weights that config.json asks "
            f"for, {missing[0]} among them; are both files of the same variant of SAM?"
        )
    return model.float().eval().requires_grad_(False)
