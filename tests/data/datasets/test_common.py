"""What registrations share: how a name that is not registered is reported."""

import pytest
from detectron2.data import DatasetCatalog

from mask2former.data.datasets.common import require_registered


def test_an_unknown_name_is_refused_with_near_ones(empty_catalogs) -> None:
    DatasetCatalog.register("fruit_train", lambda: [])
    require_registered("fruit_train")
    message = r"there is no dataset named 'fruit_trian'; near names: fruit_train"
    with pytest.raises(ValueError, match=message):
        require_registered("fruit_trian")
    with pytest.raises(ValueError, match="near names: none"):
        require_registered("zzzz")
