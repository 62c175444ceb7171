"""The version, below everything else so that every layer may name it."""

__version__ = "0.3.0"
