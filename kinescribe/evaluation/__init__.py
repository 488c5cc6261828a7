"""Judges, metrics, AURORA-Bench and the human study."""
