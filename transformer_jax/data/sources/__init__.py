"""Data sets and file formats: each is one file that names its files and reads them; `registry` lists them all.

`stored_files` finds a file of a named set: in ``$TRANSFORMER_JAX_DATA/<name>/``, then in the user's cache, then on
the network. A set gives examples in one form or several, and has one reader for each.
"""
