"""Bring published datasets into the form that they are registered in.

A module a family; the scripts in datasets/ call them. Every one can be interrupted and started
again, works in several processes, and checks what it reads.
"""
