"""TensorFlow's first import and first look for a GPU, without the page of notes it writes to stderr."""

from __future__ import annotations

import os
import sys
import tempfile


def start_tensorflow() -> None:
    """Import TensorFlow and let it look for devices.

    TF_CPP_MIN_LOG_LEVEL does not reach the notes written before TensorFlow's logging is up (oneDNN, CUDA not found), so
    the file descriptor of stderr is turned aside for that time. When the import fails, what was written is shown.
    Raises BundleError where only TensorFlow's messages are installed.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            from clickmill.bundle.graph import whole_tensorflow

            whole_tensorflow().config.list_physical_devices("GPU")
        except BaseException:
            os.dup2(kept, 2)
            aside.seek(0)
            sys.stderr.write(aside.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
