"""Training data for naming given masks: a mapper and the masks that it proposes."""
