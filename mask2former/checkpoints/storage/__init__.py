"""Files of weights: read without running code of theirs, written atomically."""
