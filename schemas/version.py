"""The version of Kinescribe, as every dataset records it."""

VERSION = "0.2.0"
