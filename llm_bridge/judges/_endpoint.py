"""What an endpoint says in its own words: the reason of a refusal, a reply that is no verdict. Never with the key.

OpenAI, vLLM and llama.cpp answer {"error": {"message", "code", "param"}}, others {"error": text} or {"detail": text},
and a server of something else a page. What is shown is one line, and short.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mmd.host.doors import MAX_SHOWN

MASKED = re.compile(r"\S*\*{3,}\S*")  # a key as an endpoint repeats it


class Refusal(NamedTuple):
    """What an endpoint says of a request that it does not carry out.

    Attributes:
        words: its reason, or the beginning of whatever it sent.
        code: its name of the reason, such as "model_not_found"; "" for none.
        field: of the request, which it complains about; "" for none.
    """

    words: str
    code: str = ""
    field: str = ""


def refusal(body: bytes, key: str) -> Refusal:
    """Read a refusal.

    Args:
        body: of the response, perhaps cut off.
        key: that must not be shown; "" for none.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    found = found[0] if isinstance(found, list) and found else found
    whole = found if isinstance(found, Mapping) else {}
    inner = whole.get("error")
    error = inner if isinstance(inner, Mapping) else whole
    told = [error.get("message"), error.get("detail"), inner]
    words = next((one if isinstance(one, str) else json.dumps(one) for one in told if one), "")
    words = words or body.decode("utf-8", "replace")
    code, field = (str(error.get(name) or "") for name in ("code", "param"))
    return Refusal(shown(words, key), code, field)


def shown(text: str, key: str) -> str:
    """A text of others as one short line without the key and without control characters."""
    text = (text.replace(key, "[key]") if key else text)[: 10 * MAX_SHOWN]
    line = " ".join(MASKED.sub("[key]", "".join(c if c.isprintable() else " " for c in text)).split())
    return line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}..."
