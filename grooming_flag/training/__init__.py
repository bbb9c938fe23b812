"""Labelled threads to models; scikit-learn and joblib are at home here."""

from grooming_flag.training.classifier import GroomingClassifier

__all__ = ["GroomingClassifier"]
