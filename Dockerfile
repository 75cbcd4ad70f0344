# hf_distill on NVIDIA GPUs: `docker build --tag hf_distill .` runs the tests, then
# `docker run --gpus all --shm-size 8g hf_distill --config_file examples/launch/zero2.yaml examples/run_glue.py ...`
FROM nvidia/cuda:12.8.1-cudnn-devel-ubuntu24.04 AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# The distribution's own versions: Ubuntu keeps the latest of each only, so pinned ones would be gone at the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make ninja-build python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1001 --create-home distiller
USER 1001
WORKDIR /home/distiller/hf_distill

# The dependencies change less often than the code.
FROM base AS dependencies
COPY --chown=1001 Makefile setup.cfg pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=1001 hf_distill/__init__.py hf_distill/
RUN make .venv/.installed

FROM dependencies AS source
COPY --chown=1001 . .
RUN touch .venv/.installed

FROM source AS tested
RUN make test && touch .tested

FROM source AS final
COPY --from=tested --chown=1001 /home/distiller/hf_distill/.tested ./
ENV PATH=/home/distiller/hf_distill/.venv/bin:$PATH
ENTRYPOINT ["accelerate", "launch"]
CMD ["--help"]
