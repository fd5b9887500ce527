"""`python -m app.demo`. Its modules take a second to load; Ctrl-C ends that without a traceback too."""

import sys

if __name__ == "__main__":
    try:
        from app.demo.command import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        print("nowcast: stopped", file=sys.stderr)
        code = 130
    raise SystemExit(code)
