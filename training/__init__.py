"""Objective, batches, loop, DeepSpeed engine and checkpoints; runs and is tested without Ray."""
