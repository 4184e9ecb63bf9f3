"""One prepared run for a machine with a GPU: see README.md in this folder."""
