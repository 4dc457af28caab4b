"""How the threads of the CPU wait for each other.

torch's wheels for Linux run every parallel region with GNU's OpenMP, whose threads spin for
milliseconds where a region ends. On a core that another process wants too, a spinning thread uses
up its share of the time, and then is not running when the next region needs it: with one busy
neighbour on two cores, a forward pass took 2.7 times as long as alone. A thread that sleeps after a
few microseconds is woken at once, as it has time left: 1.9 times.
"""

import os
import sys

SPIN_COUNT = "1000"


def sleep_when_waiting() -> bool:
    """Let threads sleep soon after they begin to wait; return whether this takes effect.

    OpenMP reads it when torch is loaded: it is too late afterwards, and a choice of the user
    (``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``) is left as it is.
    """
    chosen = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
    if chosen or "torch" in sys.modules:
        return False
    os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    return True
