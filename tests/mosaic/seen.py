"""A model that sees what a test has drawn: red is an object's number, green its class."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from mask2former.mosaic import TilePrediction
from mask2former.mosaic.objects import ObjectMerger

SCORE = 0.9
Change = Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None]


def draw(size, objects) -> np.ndarray:
    """Return an image; objects are (label, mask or (rows, columns)), later ones in front."""
    image = np.zeros((*size, 3), np.uint8)
    for number, (label, where) in enumerate(objects, start=1):
        image[where] = (number, label, 0)
    return image


def model(num_classes: int, *, in_parts: bool = False, change: Change | None = None):
    """Return what predicts windows of such images.

    Args:
        in_parts: what hangs together in a window is an object of its own.
        change: gets number, probabilities (K+1) and mask of an object in a window, and returns the
            latter two, or None where it is not seen.
    """

    def predict(windows: Sequence[np.ndarray]):
        for window in windows:
            yield TilePrediction(objects_of(window), scores_of(window))

    def scores_of(window):
        return (window[..., 1] == np.arange(num_classes)[:, None, None]).astype(np.float32)

    def objects_of(window):
        probs, masks = [], []
        for number in np.unique(window[..., 0]):
            if number:
                mask = window[..., 0] == number
                label = int(window[..., 1][mask][0])
                parts, count = ndimage.label(mask) if in_parts else (mask, 1)
                for part in range(1, count + 1):
                    found = np.full(num_classes + 1, (1 - SCORE) / num_classes, np.float32)
                    found[label] = SCORE
                    seen = (found, parts == part)
                    seen = change(int(number), *seen) if change else seen
                    if seen is not None:
                        probs.append(seen[0])
                        masks.append(seen[1])
        class_probs = np.array(probs, np.float32).reshape(-1, num_classes + 1)
        merger = ObjectMerger(class_probs, window.shape[:2])
        if masks:
            logits = np.where(np.array(masks)[merger.queries], 9.0, -9.0)
            if len(logits):
                merger.add(slice(0, len(window)), logits, 1 / (1 + np.exp(-logits)))
        return merger.result()

    return predict
