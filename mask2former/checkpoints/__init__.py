"""Files of weights: reading and writing them, and bringing their names to those of the model."""
