"""`pycni`, the tool for people."""
