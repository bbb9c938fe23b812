"""The version of the package, which models record."""

__version__ = "0.1.0"
