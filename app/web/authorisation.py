"""Who may ask: everybody without a token set, else whoever sends it.

Owns the check of `Authorization: Bearer`, and what stays open: health, for the machinery that starts and
watches workers, and the page, which holds no data and asks for the token by itself.
"""

from __future__ import annotations

import hmac

from app.web.page import FILES

OPEN_PATHS = frozenset({*FILES, "/health/live", "/health/ready"})


def is_allowed(path: str, header: str | None, token: str) -> bool:
    """Tell whether a request may pass.

    Parameters
    ----------
    path : str
        Path asked for.
    header : str or None
        The request's `Authorization`.
    token : str
        The token set; empty when everybody may ask.

    Examples
    --------
    >>> is_allowed("/api/alerts", "Bearer s3cret", "s3cret"), is_allowed("/api/alerts", None, "s3cret")
    (True, False)
    """
    if not token or path in OPEN_PATHS:
        return True
    scheme, _, credentials = (header or "").partition(" ")
    # As bytes, since compare_digest refuses text beyond ASCII; in constant time, so that how long an answer
    # takes does not tell how much of a guess was right.
    sent = credentials.strip().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(sent, token.encode()) and scheme.lower() == "bearer"
