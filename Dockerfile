# One image for every process: `tidegate worker`, `tidegate dashboard`, `tidegate topics create`.

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/tidegate
WORKDIR /src
# The dependencies first: they change less often than the code, and this layer is the large one.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir stream models dashboard && touch stream/__init__.py models/__init__.py dashboard/__init__.py \
    && /opt/tidegate/bin/pip install -c constraints.txt '.[cpu,dashboard]' \
    && /opt/tidegate/bin/pip uninstall -y tidegate \
    && rm -r stream models dashboard
COPY stream stream
COPY models models
COPY dashboard dashboard
RUN /opt/tidegate/bin/pip install --no-deps . \
    && /opt/tidegate/bin/tidegate --version

FROM python:3.12-slim
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/tidegate --create-home tidegate
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TIDEGATE_DASHBOARD__DATABASE=/var/lib/tidegate/read-model.db
USER tidegate
WORKDIR /var/lib/tidegate
VOLUME /var/lib/tidegate
EXPOSE 8501
ENTRYPOINT ["tidegate"]
CMD ["--help"]
