# The bgfetch command in an image: `docker build -t bgfetch .`, or compose.yaml.
# The project is installed in two steps, as run.py does it: the lock, every file checked
# against its hash, then the project alone. There is one lock, so the image carries the
# test tools too.

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/bgfetch
ENV PATH=/opt/bgfetch/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas/ schemas/
COPY broker/ broker/
COPY workers/ workers/
RUN pip install --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm AS runtime
LABEL org.opencontainers.image.title="bgfetch" \
  org.opencontainers.image.description="Background Fetch for servers" \
  org.opencontainers.image.licenses="Apache-2.0"
# A named volume takes the owner of the directory that it is mounted over.
RUN useradd --system --uid 10001 --user-group --no-create-home bgfetch \
  && install -d -o bgfetch -g bgfetch -m 0700 /data
COPY --from=build /opt/bgfetch /opt/bgfetch
ENV PATH=/opt/bgfetch/bin:$PATH PYTHONUNBUFFERED=1 BGFETCH_STORE=/data
USER 10001:10001
VOLUME /data
STOPSIGNAL SIGTERM
# In exec form: signals reach the command itself.
ENTRYPOINT ["bgfetch"]
CMD ["--help"]
