import os

from rafiki.worker.output import MAX_LINE_BYTES, LineReader


def lines_of(*chunks: bytes) -> list[list[str]]:
    """What a reader gives after each chunk, and after the end."""
    read_fd, write_fd = os.pipe()
    reader = LineReader(read_fd)
    lines = []
    for chunk in chunks:
        os.write(write_fd, chunk)
        lines.append(reader.read())
    os.close(write_fd)
    lines.append(reader.read())
    reader.close()
    return lines


def test_a_line_is_given_once_it_is_complete() -> None:
    assert lines_of(b"one\ntw", b"o\n") == [["one"], ["two"], []]


def test_the_last_line_needs_no_end() -> None:
    assert lines_of(b"last") == [[], ["last"]]


def test_of_a_progress_bar_the_last_state_is_given() -> None:
    assert lines_of(b"10%\r50%\r100%\r\n") == [["100%"], []]


def test_empty_lines_are_left_out() -> None:
    assert lines_of(b"\n\n  \nx\n") == [["x"], []]


def test_what_is_not_utf_8_is_replaced() -> None:
    assert lines_of(b"\xff!\n") == [["\ufffd!"], []]


def test_a_line_without_end_is_cut() -> None:
    given = lines_of(b"x" * (MAX_LINE_BYTES + 100))

    assert given[0] == ["x" * MAX_LINE_BYTES]
