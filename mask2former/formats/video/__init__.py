"""Video files, folders of frames and cameras: reading and writing, a frame at a time."""
