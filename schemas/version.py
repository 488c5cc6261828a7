"""The version of Kinescribe, as every dataset records it."""

VERSION = "0.1.0"
