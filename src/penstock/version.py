"""The version, for the package and for job keys."""

__version__ = "0.2.0"
