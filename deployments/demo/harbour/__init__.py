"""The generated harbour: an image, and the ships in it as the truth.

It is part of a clone, not of the installed package.
"""
