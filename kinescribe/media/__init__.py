"""Media files: decoding in a sandbox, motion, key frames, frame pairs and still images."""
