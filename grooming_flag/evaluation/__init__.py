"""How good is it: measures with intervals, and what is measured of a model."""
