"""A page in the browser to try a model on: `demo/app.py`."""

from .launching import Address, serve
from .layout import build_page
from .service import Service, build_predictor
from .uploads import Limits, Photos

__all__ = ["Address", "Limits", "Photos", "Service", "build_page", "build_predictor", "serve"]
