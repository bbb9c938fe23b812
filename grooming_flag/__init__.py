"""Score message threads for grooming-risk patterns, so that a person can look at the right ones first."""

import importlib

from grooming_flag._version import __version__
from grooming_flag.artifact import load_model, save_model
from grooming_flag.errors import (
    DataError,
    GroomingFlagError,
    MissingExtraError,
    ModelError,
    ModelIntegrityError,
    PolicyError,
)
from grooming_flag.features import FeatureExtractor
from grooming_flag.io.threads import read_threads
from grooming_flag.live import ThreadState
from grooming_flag.model import Model
from grooming_flag.policy import OperatingPoint
from grooming_flag.records import Assessment, AuthorRisk, Evidence, Flag, Message, Thread

__all__ = [
    "Assessment",
    "AuthorRisk",
    "DataError",
    "Evidence",
    "FeatureExtractor",
    "Flag",
    "GroomingFlagError",
    "Message",
    "MissingExtraError",
    "Model",
    "ModelError",
    "ModelIntegrityError",
    "OperatingPoint",
    "PolicyError",
    "Thread",
    "ThreadState",
    "__version__",
    "load_model",
    "read_threads",
    "save_model",
]


def __getattr__(name: str) -> object:
    """Load `grooming_flag.training` with scikit-learn, or `grooming_flag.spark` with Spark, when first asked for."""
    if name in ("training", "spark"):
        return importlib.import_module(f"grooming_flag.{name}")
    raise AttributeError(f"module 'grooming_flag' has no attribute {name!r}")
