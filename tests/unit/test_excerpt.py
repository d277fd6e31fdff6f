"""What messages say of an answer's text."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from tasks.errors import AnswerError, EndpointError, TransientError, UnreachableError
from tasks.inference.answer import parse
from tasks.inference.excerpt import excerpt
from tasks.inference.http_status import check_status
from tasks.inference.oip.messages import check_response, read_outputs
from tasks.inference.sagemaker.aws_errors import endpoint_error
from tasks.inference.transport import Response

PAGE = b"""<!DOCTYPE html>
<html><head><style>h1 { color: red }</style>
<script>if (1 < 2) window.stop()</script>
</head><body>
  <h1>502 <b>Bad</b>
      Gateway &amp; more</h1><p>The server is busy.</p></body></html>"""
LINE = "502 Bad Gateway & more"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PAGE, LINE),
        (b"\xef\xbb\xbf  <html><title>Log in</title><body>Who are you?</body></html>", "Log in"),
        ("<Error><Code>SlowDown</Code><Message>x</Message></Error>", "SlowDown"),
        (b'{"detail":\n  "no such input"}', '{"detail": "no such input"}'),
        (b"Traceback:\n  File a\nValueError: \x00\x1bno", "Traceback: File a ValueError: no"),
        (b"<p>" + b"word " * 9999, "word " * 39 + "word"),
        (b"<", "<"),
        (b"<div></div>", ""),
        (b"", ""),
    ],
)
def test_it_is_one_short_line_that_a_reader_sees(text: bytes | str, line: str) -> None:
    assert excerpt(text) == line


@pytest.mark.parametrize("check", [check_status, check_response])
def test_a_page_of_a_gateway_is_one_line_of_an_error(check: object) -> None:
    assert callable(check)
    with pytest.raises(UnreachableError) as told:
        check("http://model", Response(502, {}, PAGE))
    assert str(told.value) == f"http://model answered HTTP 502: {LINE}"


def test_a_page_in_place_of_an_answer_is_one_line() -> None:
    with pytest.raises(AnswerError) as told:
        parse(PAGE)
    assert str(told.value).endswith(f"): {LINE}")
    with pytest.raises(AnswerError) as told:
        read_outputs(Response(200, {}, PAGE), ())
    assert str(told.value).endswith(f"): {LINE}")


def test_a_page_of_a_proxy_before_aws_is_one_line() -> None:
    answer = {
        "Error": {"Code": "502", "Message": PAGE.decode()},
        "ResponseMetadata": {"HTTPStatusCode": 502},
    }
    told: EndpointError = endpoint_error("SageMaker", ClientError(answer, "InvokeEndpoint"))  # type: ignore[arg-type]
    assert str(told) == f"SageMaker: InvokeEndpoint answered 502 (HTTP 502): {LINE}"
    unread = f"Unable to parse response, invalid XML received:\n{PAGE!r}"
    error = endpoint_error("s3://bucket", ResponseParserError(unread))
    assert isinstance(error, TransientError)
    assert str(error) == "s3://bucket: Unable to parse response, invalid XML received:"
