"""Objects over the frames of a video: windows of frames, and tracks that are linked over them."""
