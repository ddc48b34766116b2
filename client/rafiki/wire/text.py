"""Texts from models and their processes, made fit for a string field of limited size."""


def clean_head(text: str, most_bytes: int) -> str:
    """The beginning of `text` in at most that many bytes of UTF-8."""
    return _encode(text)[:most_bytes].decode(errors="ignore")


def clean_tail(text: str, most_bytes: int) -> str:
    """The end of `text` in at most that many bytes of UTF-8."""
    return _encode(text)[-most_bytes:].decode(errors="ignore")


def _encode(text: str) -> bytes:
    # Lone surrogates, as in file names that are not UTF-8, cannot be encoded.
    return text.encode(errors="replace")
