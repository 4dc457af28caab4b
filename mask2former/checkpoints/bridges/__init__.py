"""Translations of weights between this project's names and those of other libraries."""
