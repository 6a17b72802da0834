"""Phases in which a gradient rule learns, population by population on a compiled backend; see `phase.py`."""
