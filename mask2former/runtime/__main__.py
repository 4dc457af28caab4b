"""`python -m mask2former.runtime`: draw what an exported model sees."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
