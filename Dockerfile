# syntax=docker/dockerfile:1
# Two images of Tiebreak and one of Label Studio, from the lock files that the tests run with:
#   docker build --target cpu   .   server and trainer on processors
#   docker build --target cuda  .   the same with CUDA, for a trainer with a GPU
#   docker build --target label-studio .
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# ---- what all share: Python, and a user who owns nothing but the data -----------------------------
FROM ${PYTHON_IMAGE} AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --gid 10001 tiebreak \
 && useradd --uid 10001 --gid tiebreak --no-create-home --home-dir /data \
      --shell /usr/sbin/nologin tiebreak \
 && install -d -o tiebreak -g tiebreak -m 0750 /data /run/secrets-made \
 && install -d -o tiebreak -g tiebreak -m 0755 /run/database-secrets

# ---- uv, which installs lock files -----------------------------------------------------------------
FROM base AS uv
COPY requirements/uv.txt /build/uv.txt
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --require-hashes --only-binary :all: \
      -r /build/uv.txt
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1

# ---- Tiebreak's packages, as the lock file has them: their torch runs with CUDA and without --------
FROM uv AS packages
COPY requirements/tiebreak.lock /build/tiebreak.lock
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv venv --quiet --python /usr/local/bin/python3 /opt/tiebreak \
 && /opt/uv/bin/uv pip sync --quiet --python /opt/tiebreak/bin/python --require-hashes \
      /build/tiebreak.lock
COPY pyproject.toml README.md LICENSE /build/tiebreak/
COPY model /build/tiebreak/model
COPY backend /build/tiebreak/backend
RUN /opt/uv/bin/uv pip install --quiet --python /opt/tiebreak/bin/python \
      --no-deps --no-build-isolation /build/tiebreak

# ---- the same with torch's build for processors, a tenth of the size -------------------------------
# TORCH_BACKEND=lock takes the lock file's torch instead, whose digest is known.
FROM uv AS packages-cpu
ARG TORCH_BACKEND=cpu
COPY requirements/tiebreak.lock docker/install-cpu /build/
RUN --mount=type=cache,target=/root/.cache/uv \
    /build/install-cpu /build/tiebreak.lock /opt/tiebreak "${TORCH_BACKEND}"
COPY pyproject.toml README.md LICENSE /build/tiebreak/
COPY model /build/tiebreak/model
COPY backend /build/tiebreak/backend
RUN /opt/uv/bin/uv pip install --quiet --python /opt/tiebreak/bin/python \
      --no-deps --no-build-isolation /build/tiebreak

# ---- Tiebreak --------------------------------------------------------------------------------------
FROM base AS tiebreak
COPY docker/make_secrets.py docker/trainer-health /usr/local/lib/tiebreak/
ENV PATH=/opt/tiebreak/bin:$PATH \
    TIEBREAK_DATA_DIR=/data \
    TIEBREAK_HOST=0.0.0.0 \
    TIEBREAK_PORT=9090
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
  CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['TIEBREAK_PORT'] + '/health', timeout=4)"]
ENTRYPOINT ["tiebreak"]
CMD ["serve"]

FROM tiebreak AS cpu
COPY --from=packages-cpu /opt/tiebreak /opt/tiebreak

FROM tiebreak AS cuda
COPY --from=packages /opt/tiebreak /opt/tiebreak
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# ---- Label Studio, in the version that the tests run with ------------------------------------------
FROM uv AS label-studio-packages
COPY requirements/label-studio.lock /build/label-studio.lock
RUN --mount=type=cache,target=/root/.cache/uv \
    /opt/uv/bin/uv venv --quiet --python /usr/local/bin/python3 /opt/label-studio \
 && /opt/uv/bin/uv pip sync --quiet --python /opt/label-studio/bin/python --require-hashes \
      /build/label-studio.lock

FROM base AS label-studio
COPY --from=label-studio-packages /opt/label-studio /opt/label-studio
COPY docker/label-studio /usr/local/bin/start-label-studio
ENV PATH=/opt/label-studio/bin:$PATH \
    DJANGO_DB=default \
    DJANGO_SETTINGS_MODULE=label_studio.core.settings.label_studio \
    LABEL_STUDIO_BASE_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=300s --retries=4 \
  CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["/usr/local/bin/start-label-studio"]
