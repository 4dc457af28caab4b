#!/usr/bin/env python
"""Make the instance annotations of Mapillary Vistas, in COCO's form."""

from mask2former.data.preparation.coco import prepare_mapillary_instances
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_mapillary_instances)
