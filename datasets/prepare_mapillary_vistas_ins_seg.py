#!/usr/bin/env python
"""Make the instance annotations of Mapillary Vistas, in COCO's form."""

from mask2former.data.preparation.mapillary_vistas import prepare_instances
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, prepare_instances)
