"""What all formats of data sets have in common."""


class InvalidDataset(ValueError):
    """A data set is not in its format; the message names the file and the line."""
