"""Measurements, printed with the machine's load and never asserted: `python -m bench`, `make bench`."""
