"""Files that were damaged or made up, given to everything that reads files. See `__main__`."""
