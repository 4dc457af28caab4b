"""A training for people who watch it: lines, a bar, trackers."""
