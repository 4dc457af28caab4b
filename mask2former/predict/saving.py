"""Save what is done while there is more to do."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SECONDS_BETWEEN_SAVES = 30


@contextmanager
def saved_as_it_goes(save: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Lend what is to be called after each image: it saves now and then. Whatever ends the block,
    the images before are saved; SIGKILL costs those of the last seconds."""
    last, count = time.monotonic(), 0

    def after_image() -> None:
        nonlocal last, count
        count += 1
        if time.monotonic() - last >= _SECONDS_BETWEEN_SAVES:
            save()
            last = time.monotonic()

    try:
        yield after_image
    except BaseException:
        if count:
            save()
        raise
