"""The pipelines of training and of drift, their compiled YAML, and the training's run on this machine. May import `components` and `clickmill`."""

__all__ = ["build", "compile", "ctr", "drift", "local"]
