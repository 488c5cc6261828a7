"""Runs a job on Ray: local, submitted or autoscaled."""
