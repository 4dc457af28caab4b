"""Files to arrays and plain values and back: one reader and one writer for each format.

Nothing here knows of models or datasets.
"""
