"""Objects over the frames of a video: windows of frames, and tracks that are linked over them.

Arrays of numpy only: the models and the runtime both follow objects with it.
"""
