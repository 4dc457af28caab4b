"""Pictures, whatever they show: coloured regions over images, and pages of many of them."""

from .contact_sheet import ContactSheet
from .paint import Region, paint

__all__ = ["ContactSheet", "Region", "paint"]
