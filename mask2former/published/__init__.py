"""The published calling conventions and import paths, for code that was written to them.

Nothing else in the package needs this: `paths` says where published names lead, `import_hook` makes
them importable, and the other modules hold what is called differently here.
"""
