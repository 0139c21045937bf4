"""Lines of the log."""

import logging

import pytest

from streamhub.keys import key
from streamhub.runtime.logs import JsonLines, TextLines


@pytest.mark.parametrize("formatter", [TextLines(None), JsonLines(2)], ids=["text", "json"])
def test_no_line_has_an_api_key_in_its_message_or_its_traceback(formatter: logging.Formatter) -> None:
    made = key.new()
    try:
        raise ValueError(f"no {made}")
    except ValueError as error:
        raised = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "given %s", (made,), raised)
    line = formatter.format(record)
    assert line.count("sh_ak_…") == 2
    assert made[6:] not in line
