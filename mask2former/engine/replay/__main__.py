"""Repeat a failed step from the command line."""

from .command import main

main()
