"""What models predict, as arrays: names of classes, drawings, files.

Models return tensors and detectron2's Instances, the runtime returns arrays; both are taken, so
nothing here needs torch or detectron2.
"""
