"""Draws the shapes data set: scenes of textured regions with shaded things before them."""
