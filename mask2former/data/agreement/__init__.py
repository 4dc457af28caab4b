"""What a config and its datasets agree on: which there are, their classes and how many objects."""
