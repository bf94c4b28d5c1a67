#!/bin/sh
# Leaves of TensorFlow in the environment $1 what serving it by its own protocol takes: the classes of its messages, 1 MB of 1,900.
set -eu
/build/venv/bin/pip --python "$1/bin/python" uninstall --quiet --yes keras h5py libclang
find "$1"/lib/python3.11/site-packages/tensorflow -type f ! -name '*_pb2.py' -delete
