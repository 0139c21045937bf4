# The image of every role: `streamhub serve` with STREAMHUB_ROLES, and the other commands for one-off runs.

FROM python:3.13-slim-bookworm AS build
# For the compiled core; the image that is run has no compiler.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE compile_core.py ./
COPY streamhub ./streamhub
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --wheel-dir /wheels '.[server,kafka]'


FROM python:3.13-slim-bookworm
# A fixed number, so that a cluster can see that it is not root's and volumes keep their owner.
RUN groupadd --gid 10001 streamhub \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/streamhub --shell /usr/sbin/nologin streamhub \
 && install --directory --owner streamhub --group streamhub --mode 0700 /var/lib/streamhub
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

USER 10001:10001
# The operators' pages have a port of their own, which is not published.
ENV STREAMHUB_HOST=0.0.0.0 \
    STREAMHUB_PORT=8080 \
    STREAMHUB_OPERATIONS_PORT=9090
EXPOSE 8080 9090

# Streams are drained at SIGTERM: give a container longer than STREAMHUB_DRAIN_TIME to stop.
STOPSIGNAL SIGTERM
# A hub waits up to 30 s for its database before it listens. There is no curl in the image; and http.client heeds no
# HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=3s --start-period=40s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; hub = http.client.HTTPConnection('127.0.0.1', int(os.environ['STREAMHUB_OPERATIONS_PORT']), timeout=2); hub.request('GET', '/-/healthy'); sys.exit(hub.getresponse().status != 200)"]

ENTRYPOINT ["streamhub"]
CMD ["serve"]
