"""Labelled threads to models; scikit-learn and joblib are at home here."""

from grooming_flag.training.classifier import GroomingClassifier
from grooming_flag.training.learn import learn_from
from grooming_flag.training.samples import Plan

__all__ = ["GroomingClassifier", "Plan", "learn_from"]
