"""The one module that makes an application at import: what `faust -A app` runs."""

from __future__ import annotations

import sys

from app.factory import create_app
from app.settings import SettingsError, load_settings

try:
    app = create_app(load_settings())
except SettingsError as error:
    print(f"nowcast: {error}", file=sys.stderr)
    raise SystemExit(2) from None
