"""Decodes the outputs of each family of detectors, as `swath:detector` describes them.

detector.py has the base class, boxes.py the functions that several families use; every other module
is one family.
"""
