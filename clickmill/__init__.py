"""The Clickmill library: everything about click probabilities that needs no cluster.

May import nothing of the other rooms, no kfp, no kserve, no kubernetes (`clickmill.command` imports other
rooms lazily, by subcommand). Sub-packages, top to bottom; an upper one may import a lower one:

    command
    bundle
    release, training
    models
    calibration, features, evaluation
    data
    contract
    errors, metric_names, progress
"""

from importlib.metadata import version

__version__ = version("clickmill")
__all__ = ["__version__"]
