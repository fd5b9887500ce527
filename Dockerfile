# The image of a Nowcast worker: dependencies in one layer, the source in another, run from the source as in a
# checkout. docker-compose.yml shows its use.

# The Python that CI tests with.
FROM python:3.11-slim AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Only the description of the project is here, no package of it: this installs what it depends on and no more,
# and is done again only when that changes. Wheels only, so the image needs no compiler.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --only-binary=:all: -c constraints.txt .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin nowcast \
    && install -d -o nowcast -g nowcast /data
COPY --from=dependencies /venv /venv
WORKDIR /nowcast
COPY app app
COPY agents agents
COPY tables tables
COPY compute compute
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/nowcast \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NOWCAST_DATA_DIR=/data \
    NOWCAST_WEB_HOST=0.0.0.0
USER nowcast
# State lives here, one volume a container: two workers must not share a data directory.
VOLUME /data
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('NOWCAST_WEB_PORT', '6066') + '/health/live', timeout=4)"]
# The list form: signals reach Faust itself, which then commits and leaves its group.
CMD ["faust", "-A", "app", "worker", "-l", "info"]
