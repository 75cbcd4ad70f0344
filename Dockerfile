# hf_distill on NVIDIA GPUs: `docker build --tag hf_distill .` runs the tests first, `--build-arg TESTS=no` leaves them out.
# docs/scaling.md shows how to run it, with a mounted folder and the caller's user.
ARG TESTS=yes

# torch 2.13.0 is built for CUDA 13.0; "devel", because DeepSpeed compiles with the CUDA compiler when it is first used.
FROM nvidia/cuda:13.0.3-cudnn-devel-ubuntu24.04 AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1
# The distribution's own versions: Ubuntu keeps the latest of each only, so pinned ones would be gone at the next fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make ninja-build python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# Outside of any home, which other users may not enter.
RUN useradd --uid 1001 --create-home distiller && install --directory --owner=distiller /opt/hf_distill
USER 1001
WORKDIR /opt/hf_distill

# The dependencies change less often than the code.
FROM base AS dependencies
ARG PIP_INDEX_URL
COPY --chown=1001 Makefile setup.cfg setup.py pyproject.toml constraints.txt README.md LICENSE ./
COPY --chown=1001 hf_distill/__init__.py hf_distill/
RUN make EXTRAS=all .venv/.installed \
    && .venv/bin/python -c "import os, torch; assert os.environ['CUDA_VERSION'].startswith(torch.version.cuda + '.')"

FROM dependencies AS source
COPY --chown=1001 hf_distill hf_distill/
COPY --chown=1001 examples examples/

FROM source AS tests-yes
COPY --chown=1001 . .
# What is installed lacks the tools of tests so far.
RUN rm .venv/.installed && make test && touch .tested

FROM source AS tests-no
RUN touch .tested

# hadolint ignore=DL3006
FROM tests-${TESTS} AS tested

FROM source AS final
COPY --from=tested --chown=1001 /opt/hf_distill/.tested ./
# Any user can run it: caches are where all may write, and a user without a name has one.
ENV PATH=/opt/hf_distill/.venv/bin:$PATH HOME=/tmp USER=distiller
ENTRYPOINT ["accelerate", "launch"]
CMD ["--help"]
