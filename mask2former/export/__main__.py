"""Run the export from the command line."""

from .command import main

main()
