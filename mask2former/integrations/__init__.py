"""What tools of others call: a class or module for each whose contract needs one.

docs/integrations.md shows how to use them, and tools that need no code at all. Each module imports
its tool, which is not installed with this package.
"""
