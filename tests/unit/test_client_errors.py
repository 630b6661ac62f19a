"""One line a minute about what clients send, and all about what we do."""

import logging

from aiohttp.http_exceptions import BadHttpMessage

from l4lb.client_errors import ClientErrors


def test_one_line_a_minute_with_how_many_there_were(caplog):
    now = [1_000.0]
    logger = logging.getLogger("test_client_errors")
    logger.addFilter(ClientErrors(lambda: now[0]))

    def come(times):
        for _ in range(times):
            logger.error("Error handling %s", "it", exc_info=BadHttpMessage("odd\n\nheader"))

    come(10_000)
    now[0] += 59.0
    come(1)
    assert caplog.messages == ["what came is not HTTP: 400, message: odd header"]
    now[0] += 1.0
    come(2)
    now[0] += 60.0
    come(1)
    assert caplog.messages[1:] == [
        "what came is not HTTP: 400, message: odd header (10000 more since this was said last)",
        "what came is not HTTP: 400, message: odd header (1 more since this was said last)",
    ]
    assert all(record.exc_info is None for record in caplog.records)
    logger.error("a bug", exc_info=RuntimeError("odd"))
    logger.error("a bug", exc_info=RuntimeError("odd"))
    assert caplog.messages[3:] == ["a bug"] * 2
    assert caplog.records[-1].exc_info
