# The service. From the project's root:
#   docker build -t matfn .                                on a CPU
#   docker build -t matfn:cuda --build-arg TORCH=cuda .    on an NVIDIA GPU: run it with --gpus all
# BASE_IMAGE may be any image of Debian 12 or later.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS base
# The distribution's versions, for its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils gcc libc6-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# pip has an environment of its own, so that the service's has none.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/pip/bin:$PATH \
    PIP_PYTHON=/opt/venv/bin/python \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY docker/requirements.txt docker/build-requirements.txt docker/
# numpy.testing imports numpy's tests; nobody imports the others.
RUN pip --python /opt/pip/bin/python install --require-hashes -r docker/build-requirements.txt \
    && pip install --no-compile --require-hashes -r docker/requirements.txt \
    && find /opt/venv -type d -name tests ! -path "*/numpy/*" -exec rm -rf {} +
COPY constraints.txt ./
# PyTorch's public index has the build for CPUs alone; with TORCH_CPU_INDEX= (empty) it comes from pip's own index.
# What torch brings for compilers, debuggers and its own tests is two fifths of it.
ARG TORCH=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN case "$TORCH" in \
        cpu) pip install --no-compile --no-deps ${TORCH_CPU_INDEX:+--index-url "$TORCH_CPU_INDEX"} -c constraints.txt torch ;; \
        cuda) pip install --no-compile -c constraints.txt torch ;; \
        *) echo "TORCH is cpu or cuda, not $TORCH" >&2; exit 1 ;; \
    esac \
    && torch=$(echo /opt/venv/lib/python3*/site-packages/torch) \
    && rm -rf "$torch/include" "$torch/share" "$torch/test" \
    && find "$torch/bin" -type f ! -name torch_shm_manager -delete \
    && strip --strip-unneeded "$torch/lib/libtorch_cpu.so" "$torch/lib/libtorch_python.so"
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY client client
COPY service service
COPY kernels kernels
RUN pip --python /opt/pip/bin/python wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip install --no-compile --no-deps dist/*.whl
# Every function is computed once: nothing that was left out is missed, and what is imported has its bytecode.
# The kernels in C are loaded by name: a wheel does without them where they cannot be compiled, the image does not.
RUN /opt/venv/bin/python -c "import ctypes, matfn, matfn.cli, matfn.check as check, matfn_service.server; \
        ctypes.CDLL(matfn.__path__[0] + '/../matfn_kernels/linalg/native/libmatfn_native.so'); \
        assert all(verdict.right for verdict in check.verdicts(matfn.LocalClient(), check.cases()))"
# What is in the environment, as a CycloneDX document; what Debian's packages are, scanners read from dpkg.
RUN install --directory /opt/venv/share/matfn \
    && cyclonedx-py environment --output-reproducible --of JSON --output-file /opt/venv/share/matfn/sbom.cdx.json /opt/venv/bin/python

FROM base
# Triton compiles its link to the GPU's driver when a kernel is first used: with gcc, against Python's headers.
ARG TORCH=cpu
# hadolint ignore=DL3008
RUN if [ "$TORCH" = cuda ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends gcc libc6-dev libpython3-dev \
        && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
    fi
COPY --from=build /opt/venv /opt/venv
RUN install --directory --owner=10001 --group=10001 /var/cache/matfn
# Kept pages: a request body in fresh pages costs half a millisecond a MiB. Where the root is read-only, what is compiled
# for a GPU has its temporary files in the one folder that can be written.
ENV PATH=/opt/venv/bin:$PATH \
    TMPDIR=/var/cache/matfn \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=8589934592 \
    MALLOC_TOP_PAD_=134217728 \
    OPENBLAS_NUM_THREADS=1 \
    MATFN_HOST=0.0.0.0 \
    MATFN_CACHE_DIR=/var/cache/matfn \
    MATFN_LOG_FORMAT=json
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["python", "-m", "matfn_service.health"]
ENTRYPOINT ["tini", "--", "matfn"]
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="matfn" \
      org.opencontainers.image.description="Matrix functions as a service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
