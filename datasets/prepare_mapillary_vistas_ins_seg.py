#!/usr/bin/env python
"""Makes the instance annotations of Mapillary Vistas, in COCO's form."""

from mask2former.data.preparation.mapillary_vistas import SPLITS, prepare_instances
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, SPLITS, prepare_instances)
