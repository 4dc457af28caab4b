"""Measurements of speed and memory beside other implementations; `make bench` runs them all."""
