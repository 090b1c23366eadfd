# Penstock with what its workloads need: docker build --tag penstock .
# Its memory limit is found by itself: docker run --memory=4g penstock limits
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY src src
# The locked versions of what is needed; their hashes cannot be asked for beside a folder, which has none.
RUN grep -o '^[^ \]*==[^\]*' requirements.lock > versions.txt \
    && python -m venv /opt/penstock \
    && /opt/penstock/bin/pip install --no-cache-dir --constraint versions.txt ".[all]"

FROM python:3.13-slim-bookworm
# What LightGBM's wheel is linked to.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --user-group penstock
COPY --from=build /opt/penstock /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH
USER 1000:1000
# Mount a volume here: a run folder that outlives the container is what resumes.
WORKDIR /data
ENTRYPOINT ["penstock"]
CMD ["--help"]
