# The image that every process on AWS runs: server, worker, sensor, image and region. `make image` builds it.
#
# The base is any image with Python 3.11 to 3.14 and its venv module: python-slim, UBI, or one of Iron Bank. A tag may
# later name another image: `make image BASE=registry/name@sha256:…` names it by digest, so that a build can be repeated.
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS base
# hadolint ignore=DL3002
USER 0:0
# python-slim lacks a library that rasterio needs, and the byte code of Python's standard library, which saves 0.4 s of
# each start.
# hadolint ignore=DL3008
RUN python3 -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 14) or sys.exit("Swath needs Python 3.11 to 3.14")' \
    && { python3 -c 'import ctypes; ctypes.CDLL("libexpat.so.1")' 2> /dev/null || { \
        apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*; }; } \
    && python3 -m compileall -q -j 0 -x '/(lib2to3|tests?|(site|dist)-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

FROM base AS build
ARG FLAVOUR=cpu
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY deployments/image/build.lock deployments/image/runtime.lock deployments/image/gpu.lock deployments/image/unused.py ./
# The secrets hold pip's index and its certificate authority, if they are not the public ones. Byte code is compiled
# with unchecked hashes: not every builder keeps the times of files, and a container cannot write new byte code. One
# module of whenever has the syntax of Python 3.12, and is imported by no older one.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/etc/pip-ca.pem \
    python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/build/bin/pip install --no-deps --only-binary :all: --require-hashes --requirement build.lock \
    && /opt/build/bin/pip --python /opt/venv/bin/python install \
        --no-compile --no-deps --only-binary :all: --require-hashes --requirement runtime.lock \
    && if [ "${FLAVOUR}" = gpu ]; then \
        /opt/build/bin/pip --python /opt/venv/bin/python uninstall --yes onnxruntime \
        && /opt/build/bin/pip --python /opt/venv/bin/python install \
            --no-compile --no-deps --only-binary :all: --require-hashes --requirement gpu.lock; fi \
    && if [ "${FLAVOUR}" = http ]; then \
        /opt/build/bin/pip --python /opt/venv/bin/python uninstall --yes onnxruntime flatbuffers; fi \
    && /opt/venv/bin/python -I unused.py "$(echo /opt/venv/lib/python3.*/site-packages)" \
    && echo /opt/swath > "$(echo /opt/venv/lib/python3.*/site-packages)/swath.pth" \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(tests?/|_typing_312\.py)' /opt/venv
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/build/bin/pip --python /opt/venv/bin/python install \
        --no-compile --no-deps --no-index --target /opt/swath /tmp/wheel/*.whl \
    && cp prefect.yaml /opt/swath \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/swath \
    && /opt/build/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /opt/swath/sbom.cdx.json /opt/venv/bin/python \
    && /opt/build/bin/python deployments/image/bill.py \
        /opt/swath/sbom.cdx.json /opt/swath/licenses.txt /opt/venv/lib/python3.*/site-packages \
    && cp LICENSE /opt/swath
# The loops of the merge are compiled for any processor of the architecture: the image may run on another processor
# than that of the build.
WORKDIR /opt/swath
RUN NUMBA_CPU_NAME=generic PYTHONDONTWRITEBYTECODE=1 /opt/venv/bin/python -m tasks.merge

FROM scratch AS sbom
COPY --from=build /opt/swath/sbom.cdx.json /opt/swath/licenses.txt /

FROM base
ARG BASE_IMAGE
ARG FLAVOUR=cpu
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Swath" \
      org.opencontainers.image.description="Runs machine-learning models over satellite images of any size." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      swath.flavour="${FLAVOUR}"
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/swath /opt/swath
RUN ["python3", "-I", "/opt/swath/deployments/image/strip.py"]
# Only /tmp must be writable: run the image with a read-only root and without capabilities.
ENV PATH=/opt/swath/bin:/opt/venv/bin:${PATH} \
    HOME=/tmp \
    USER=swath \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NUMBA_CPU_NAME=generic \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PREFECT_HOME=/tmp/.prefect \
    PREFECT_LOGGING_EXTRA_LOGGERS=tasks \
    PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW=ignore \
    DO_NOT_TRACK=1
WORKDIR /opt/swath
# A volume that Fargate mounts on /tmp has the folder's owner and mode only if the image declares it; otherwise, only
# root may write there.
VOLUME ["/tmp"]
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s CMD ["python", "-m", "deployments.image.health"]
ENTRYPOINT []
CMD ["swath", "--help"]
