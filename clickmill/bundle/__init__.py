"""The bundle: one trained, calibrated model as an immutable folder. May import everything below `command`."""
