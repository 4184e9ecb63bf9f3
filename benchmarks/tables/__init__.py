"""Tables of the documents, a file for each subject; each has its own ``TABLES`` by name."""
