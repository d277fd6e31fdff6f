"""The Python API, of which `swath.py` is the face: arrays, Python functions as models, results."""
