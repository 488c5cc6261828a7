"""Kinescribe writes down what was done in videos; this package is its command line and public API."""

__version__ = "0.1.0"
