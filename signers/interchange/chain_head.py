"""Asking a node for the head of its chain: the one thing here that uses the network."""

import time
from datetime import datetime
from typing import Annotated, Final

import httpx
import msgspec

from signers.errors import MalformedBytes, Unavailable
from signers.formats import base58
from signers.interchange.diagnosis import ChainHead
from signers.interchange.recorded_mark import LEVEL_MAX

_PATH: Final = "/chains/main/blocks/head/header"
ANSWER_S_MAX: Final = 10.0  # for the whole answer; a node that is well needs milliseconds
ANSWER_BYTES_MAX: Final = 64 * 1024  # a header has about a kilobyte


class NodeUnavailable(Unavailable):
    """The node does not answer, or not as nodes do: look at it, or give another --node."""

    code = "node_unavailable"


class _Header(msgspec.Struct):
    chain_id: str
    level: Annotated[int, msgspec.Meta(ge=0, le=LEVEL_MAX)]
    timestamp: str


def read_head(url: str) -> ChainHead:
    """Ask the node at a URL for its head. Raises NodeUnavailable."""
    try:
        header = msgspec.json.decode(_answer(url.rstrip("/") + _PATH), type=_Header)
        chain_id = base58.decode(base58.CHAIN_ID, header.chain_id)
        at = datetime.fromisoformat(header.timestamp)
        if at.tzinfo is None:
            raise ValueError("the time of its head has no time zone")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NodeUnavailable(f"{url} does not answer: {error or type(error).__name__}") from error
    except (msgspec.MsgspecError, MalformedBytes, ValueError) as error:
        raise NodeUnavailable(f"{url} does not answer as a node: {error}") from error
    return ChainHead(chain_id, header.level, int(at.timestamp()))


def _answer(url: str) -> bytes:
    deadline, body = time.monotonic() + ANSWER_S_MAX, b""
    with (
        httpx.Client(timeout=ANSWER_S_MAX, trust_env=False) as client,
        client.stream("GET", url) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise NodeUnavailable(f"{url} answers {response.status_code}")
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX or time.monotonic() > deadline:
                raise NodeUnavailable(f"{url} does not answer as a node: it answers without end")
    return body
