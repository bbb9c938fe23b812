"""What can go wrong. Every message says what, where and how to mend it, and never quotes a chat."""

from __future__ import annotations


class GroomingFlagError(Exception):
    """Root of all errors that this package raises on purpose."""


class DataError(GroomingFlagError, ValueError):
    """Threads, messages or labels are not what they should be."""


class ModelError(GroomingFlagError, ValueError):
    """A model folder or a model setting cannot be used."""


class ModelIntegrityError(ModelError):
    """A model folder is incomplete or its files are not those that were written."""


class PolicyError(GroomingFlagError, ValueError):
    """A threshold or an operating point cannot be used."""


class MissingExtraError(GroomingFlagError, ImportError):
    """A package of an optional extra is not installed."""
