"""Pickles that tests read back, and what one of them would call."""

import io
import pickle

from mask2former.checkpoints.storage.safe_pickle import load_pickle


def reload(value, protocol=4):
    return load_pickle(io.BytesIO(pickle.dumps(value, protocol)))


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args
