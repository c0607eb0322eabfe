# The avpipe command in a container. docs/container.md shows how it is built and run; .ci/check-image proves it.
#
# Stages: base (Debian, Python, the user) -> deps (torch, then the other packages) -> the image.
# `requirements` and `package` only make files for them, so that a change of the source reinstalls no package.

# Any Debian or Ubuntu image, with Python 3.11 or newer or with none.
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BASE_IMAGE} AS base
# Installs Debian's Python only where the base has none that can make a virtual environment.
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get update -q \
    && { python3 -c 'import ensurepip, venv' 2>/dev/null \
         || apt-get install -qy --no-install-recommends python3 python3-venv; } \
    && apt-get install -qy --no-install-recommends ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
         || { echo "avpipe needs Python 3.11 or newer, which this BASE_IMAGE does not have" >&2; exit 1; }; } \
    && python3 -m venv /opt/avpipe \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /work --shell /bin/sh avpipe \
    && install -d -o avpipe -g avpipe -m 1777 /work
ENV PATH=/opt/avpipe/bin:$PATH LANG=C.UTF-8


# Takes the requirements out of pyproject.toml, torch's own line apart: a change of anything else in that file, or of
# another requirement, leaves the big layer alone.
FROM base AS requirements
COPY pyproject.toml /src/
RUN ["python", "-c", "import pathlib, tomllib\n\
lines = tomllib.loads(pathlib.Path('/src/pyproject.toml').read_text())['project']['dependencies']\n\
pathlib.Path('/torch.txt').write_text('\\n'.join(line for line in lines if line.startswith('torch')))\n\
pathlib.Path('/others.txt').write_text('\\n'.join(lines))\n"]


FROM base AS deps
# TORCH=cuda: PyPI's normal torch, which brings its own CUDA libraries. TORCH=cpu: torch and torchvision from the index
# of CPU builds whose address is TORCH_INDEX. Which one it became is checked below, not assumed.
ARG TORCH=cuda
ARG TORCH_INDEX=
COPY --from=requirements /torch.txt /opt/avpipe/requirements/
RUN --mount=type=secret,id=pip,target=/run/pip.conf \
    case "$TORCH" in \
      cuda) set -- ;; \
      cpu) test -n "$TORCH_INDEX" || { echo "TORCH=cpu needs TORCH_INDEX=<address>: choose Stable, Linux, Pip, CPU in" \
             "the selector of PyTorch's 'Get Started' page and take the index address it shows" >&2; exit 1; } ;; \
      *) echo "TORCH is '$TORCH'; it must be cuda or cpu" >&2; exit 1 ;; \
    esac \
    && PIP_CONFIG_FILE=/run/pip.conf pip install --no-cache-dir --disable-pip-version-check --progress-bar off \
         ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement /opt/avpipe/requirements/torch.txt torchvision \
    && python -c "import sys, torch; built = 'cpu' if torch.version.cuda is None else 'cuda'; \
sys.exit(None if built == '$TORCH' else f'TORCH=$TORCH was asked for, but torch {torch.__version__} is a {built} build')"
COPY --from=requirements /others.txt /opt/avpipe/requirements/
# The import fails where torch and torchvision do not belong together (a CPU torch with a CUDA torchvision, say).
RUN --mount=type=secret,id=pip,target=/run/pip.conf \
    PIP_CONFIG_FILE=/run/pip.conf pip install --no-cache-dir --disable-pip-version-check --progress-bar off \
      --requirement /opt/avpipe/requirements/others.txt \
    && python -c "import timm"


# Installs the package into /staged, byte code included; the image takes that tree as one small layer.
FROM deps AS package
COPY pyproject.toml README.md LICENSE /src/
COPY pipeline /src/pipeline/
COPY stages /src/stages/
COPY cli /src/cli/
COPY data_manifests /src/data_manifests/
RUN --mount=type=secret,id=pip,target=/run/pip.conf \
    PIP_CONFIG_FILE=/run/pip.conf pip install --no-cache-dir --disable-pip-version-check \
      --no-deps --root /staged /src


FROM deps
COPY --from=package /staged/ /
LABEL org.opencontainers.image.title="avpipe" \
      org.opencontainers.image.description="Feature cache for frozen audio-visual backbones, and light distillers" \
      org.opencontainers.image.licenses="Apache-2.0"
# For NVIDIA's container runtime.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# Containers share their cores: threads that spin while they wait for each other take the very time slices that the
# other needs. With all cores busy, small training steps on two threads ran 20 to 90 times faster this way.
# No OMP_NUM_THREADS: torch counts the cores it may use, and avpipe shares them out among its workers.
ENV OMP_WAIT_POLICY=PASSIVE
# Downloaded weights go below the working folder, for whatever user the container is started as.
ENV HOME=/work
# A stop is what Ctrl-C is: an extraction finishes the open unit.
STOPSIGNAL SIGINT
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["avpipe"]
CMD ["--help"]
