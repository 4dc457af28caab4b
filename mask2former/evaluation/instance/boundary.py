"""The boundary region of masks, for Boundary IoU (Cheng et al., CVPR 2021, section 4)."""

import cv2
import numpy as np

DILATION_RATIO = 0.02  # of the image's diagonal; the paper's choice for COCO-sized images


def boundary_width(height: int, width: int, dilation_ratio: float = DILATION_RATIO) -> int:
    """Return the paper's distance d in pixels: a fraction of the image's diagonal, at least one."""
    return max(1, round(dilation_ratio * float(np.hypot(height, width))))


def boundary_region(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the pixels of a mask that lie within ``width`` of its contour.

    The contour runs along the image's border too, where the mask reaches it. Distance is counted
    as in the authors' evaluation, by erosion with squares.

    Args:
        mask: (H, W) bool.
        width: in pixels, at least 1.

    Returns:
        (H, W) bool.
    """
    region = mask.copy()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return region
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    inside = cv2.erode(
        np.ascontiguousarray(mask[box], np.uint8),
        kernel,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    region[box] &= inside == 0
    return region
