"""Write reports from the command line."""

from .command import main

main()
