"""The version, for the package and for the keys of jobs."""

__version__ = "0.2.0"
