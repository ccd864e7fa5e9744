"""What the terminal shows."""

import io

import pytest

from project.console import Console, LogFile


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colours_are_allowed(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_each_source_stands_in_front_of_its_lines():
    stream = io.StringIO()

    Console(stream).line("web", "hello")

    assert stream.getvalue() == "web         | hello\n"


def test_a_source_keeps_its_colour_on_a_terminal():
    stream = Terminal()
    console = Console(stream)

    for source in ("web", "redis", "web"):
        console.line(source, "hello")

    first, second, third = stream.getvalue().splitlines()
    assert first == third
    assert first[:5] != second[:5]


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()

    Console(stream).problem("web", "oh")

    assert stream.getvalue() == "web         | oh\n"


def test_the_status_line_stays_below_the_lines():
    stream = Terminal()
    console = Console(stream)

    console.show_status("half done")
    console.say("a line")
    console.show_status("")

    erase = "\r\x1b[2K"
    assert stream.getvalue() == f"{erase}half done{erase}a line\nhalf done{erase}"


def test_a_plain_stream_has_no_status_line():
    stream = io.StringIO()

    Console(stream).show_status("half done")

    assert stream.getvalue() == ""


def test_lines_for_a_terminal_that_was_closed_are_dropped():
    stream = io.StringIO()
    console = Console(stream)
    stream.close()

    console.line("web", "hello")


def test_a_log_file_shows_only_problems(tmp_path):
    stream = io.StringIO()
    log = LogFile(tmp_path / "log" / "picture.log", console=Console(stream))

    log.line("web", "hello")
    log.problem("web", "oh")

    assert stream.getvalue() == "web         | oh\n"
    assert [line[9:] for line in log.path.read_text().splitlines()] == ["web         | hello", "web         | oh"]
