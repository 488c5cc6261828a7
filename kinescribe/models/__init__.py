"""Codecs and vision-language models behind four methods; knows nothing of video or of Ray."""
