"""One reader for each form of annotations."""
