"""Decoding the outputs of each family of detectors, as `swath:detector` describes them.

detector.py is the base class, boxes.py what families share; every other module is one family.
"""
