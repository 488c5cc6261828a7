"""Imagined frames: sampling a world model and choosing by a dynamics model."""
