# The worker's image. Everything that it runs is in requirements.lock; the lock names the tools of development too,
# so it serves as constraints: what pyproject.toml asks for is installed, in the lock's versions, by its hashes.
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir --root-user-action=ignore "uv>=0.8,<1"
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/shoal
WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN uv venv "$VIRTUAL_ENV" \
 && uv pip install --require-hashes --constraint requirements.lock -r pyproject.toml
COPY . .
RUN uv pip install --no-deps .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/shoal /opt/shoal
# a new volume takes over the owner of the folder that it is mounted on
RUN useradd --uid 10001 --home-dir /var/lib/shoal --create-home --shell /usr/sbin/nologin shoal
ENV PATH=/opt/shoal/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SHOAL_STATE__DATADIR=/var/lib/shoal/state
USER 10001:10001
WORKDIR /var/lib/shoal
# the loops over events, compiled into the user's cache, so that no start has to
RUN python -m streams.compiling
EXPOSE 6066
ENTRYPOINT ["shoal"]
CMD ["worker"]
