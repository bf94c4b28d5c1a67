"""The training pipeline, its compiled YAML, and its run on this machine. May import `components` and `clickmill`."""

__all__ = ["build", "compile", "ctr", "local"]
