"""`swath run`: a model over one image, without a queue and without a server.

`options` turns the words of the command line into a request, `job` runs it, `command` prints the
outcome.
"""
