"""Video to key frames to pairs to labelled triplets; runs and is tested without Ray."""
