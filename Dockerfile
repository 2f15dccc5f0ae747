# The service on a CPU. Build from the project's root: docker build -t matfn .
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# torch first and alone: it is most of the image and changes least.
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY service service
COPY kernels kernels
RUN pip install --no-cache-dir -c constraints.txt ".[service]"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="matfn" \
      org.opencontainers.image.description="Matrix functions as a service" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/venv /opt/venv
# Kept pages: a request body in fresh pages costs half a millisecond a MiB.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=1073741824 \
    MALLOC_TRIM_THRESHOLD_=8589934592 \
    MALLOC_TOP_PAD_=134217728 \
    OPENBLAS_NUM_THREADS=1 \
    MATFN_HOST=0.0.0.0 \
    MATFN_LOG_FORMAT=json
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["matfn"]
CMD ["serve"]
