# syntax=docker/dockerfile:1
# The image of Larder: one static binary, the certificate authorities, nothing else. docs/guides/docker.md
#
#   docker build --tag larder .
#
# Each architecture is built on a machine of its own kind (see .github/workflows/release.yml): no emulation, and no
# cross compiler for the C in the SQL parser.

FROM rust:1.95-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# The SQL parser's build needs libclang. Its version changes with Debian's point releases, so it is not pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY crates crates
COPY testkit testkit
COPY benches benches
COPY conformance conformance
COPY examples examples
ARG REVISION=unknown
# A static C library needs no image below the binary; --target keeps build scripts (which load libclang) dynamic.
# Names of functions stay in for panics; line tables, half of the size, do not.
ENV CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    LARDER_REVISION=${REVISION} \
    RUSTFLAGS="-C target-feature=+crt-static"
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host=$(rustc -vV | sed -n 's/^host: //p') \
    && cargo build --release --locked --package larder --target "$host" \
    && install -D -m 0755 "target/$host/release/larder" /image/usr/bin/larder \
    && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && printf 'larder:x:65532:65532:Larder:/:/usr/bin/larder\n' >/image/etc/passwd \
    && printf 'larder:x:65532:\n' >/image/etc/group \
    && printf 'hosts: files dns\n' >/image/etc/nsswitch.conf \
    && chmod 0644 /image/etc/passwd /image/etc/group /image/etc/nsswitch.conf

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Larder" \
      org.opencontainers.image.description="A transparent, provably fresh read cache for PostgreSQL" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/ /
# In a container the outside decides who may reach a port.
ENV LARDER_LISTEN_ADDR=0.0.0.0:6433 \
    LARDER_ADMIN_ADDR=0.0.0.0:6434
# By number, so that Kubernetes can see that it is not root. It writes nothing: the root may be read-only.
USER 65532:65532
EXPOSE 6433 6434
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=10s --retries=3 CMD ["/usr/bin/larder", "health"]
ENTRYPOINT ["/usr/bin/larder"]
CMD ["serve"]
