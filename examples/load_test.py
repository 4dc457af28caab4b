#!/usr/bin/env python
"""Ask examples/serve.py for a number of photos from several clients at once; print how it does.

    python examples/load_test.py --photo street.jpg --clients 1 4 16 --requests 200

Needs: pip install httpx.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np


def load(url: str, photo: bytes, clients: int, requests: int) -> str:
    """Return a line of figures: photos a second, seconds a request, and how many failed."""

    def ask(_: int) -> tuple[float, int]:
        start = time.monotonic()
        answer = session.post(f"{url}/predict", files={"image": ("photo", photo)})
        return time.monotonic() - start, answer.status_code

    limits = httpx.Limits(max_connections=clients)
    with httpx.Client(timeout=120, limits=limits) as session, ThreadPoolExecutor(clients) as pool:
        start = time.monotonic()
        answers = list(pool.map(ask, range(requests)))
        seconds = time.monotonic() - start
    median, high = np.percentile([took for took, _ in answers], (50, 95))
    failed = sum(status != 200 for _, status in answers)
    return (
        f"{clients:4} clients: {requests / seconds:6.1f} photos/s, {median:.3f} s a request "
        f"(95 %: {high:.3f} s), {failed} of {requests} failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--photo", required=True, type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=100, help="of each number of clients")
    args = parser.parse_args()
    photo = args.photo.read_bytes()
    load(args.url, photo, 1, 3)  # the first ones are slow
    for clients in args.clients:
        print(load(args.url, photo, clients, args.requests), flush=True)


if __name__ == "__main__":
    main()
