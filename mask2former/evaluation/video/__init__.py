"""Video instance segmentation: AP as YouTube-VIS counts it, and the quality of tracks."""
