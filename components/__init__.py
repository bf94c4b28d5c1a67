"""The steps of the pipelines, one folder each: a thin typed shell around the library. May import `clickmill` only; `monitor` also `monitoring.drift`."""

__all__ = [
    "calibrate",
    "deploy",
    "experiment",
    "monitor",
    "preprocess",
    "report",
    "train",
    "validate_data",
    "validate_model",
]
