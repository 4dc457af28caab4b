"""The config keys of training that the published code does not have, all ours, with defaults."""

from collections.abc import Mapping
from typing import Any

TRAINING_KEYS: Mapping[str, Mapping[str, Any]] = {
    "SOLVER": {
        "AUTO_BATCH": False,  # on CUDA: the smallest ACCUMULATE with which a step fits
        "ACCUMULATE": 1,  # parts in which a batch passes the model, for the same update
        # The batch that BASE_LR and the schedule were made for, by which they are scaled; 0: as is.
        "REFERENCE_BATCH": 0,
    },
    "SOLVER.EMA": {
        "ENABLED": False,  # keep a moving average of the weights
        "DECAY": 0.9999,  # of the average in a step, at most
        # Until DECAY limits it, the average spans the last 1 / WARMUP of the steps so far.
        "WARMUP": 20.0,
    },
    "SOLVER.AMP": {"DTYPE": "float16"},  # or "bfloat16"; on CPUs always that
    "TEST": {
        "EMA": "instead",  # of the weights; or "beside" them, or "never"
        "LOSS": False,  # evaluate the training loss on the test sets, too
    },
    "TEST.BEST": {
        "METRIC": "",  # "panoptic_seg/PQ": the weights with the best are kept in model_best.pth
        "MODE": "max",  # or "min"
        "PATIENCE": 0,  # evaluations in a row without a better one that end the run; 0: never
    },
}
