"""The generated harbour: an image, and its ships as the ground truth.

This package is part of a clone, not of the installed Swath.
"""
