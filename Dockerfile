# One image with every binary: the services and `carillon`. What runs is the command: `api`, `outbox-relay`, … ;
# docs/adr/0022 says why one image, and docs/DEPLOY.md how it is built.
#
# Both base images are arguments, so that it can be built where only local ones exist (scripts/image --local).

# The Rust of rust-toolchain.toml, with a C and C++ compiler, make, pkg-config and OpenSSL's headers.
ARG BUILD_IMAGE=rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1
# The C library, libgcc, OpenSSL 3, certificates; neither a shell nor a package manager. It must be of the build image's Debian.
# Distroless has no tags of versions: `docker buildx imagetools inspect gcr.io/distroless/cc-debian12:nonroot` tells the newest digest.
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

# ---- what decides about dependencies, and nothing else: sources are empty, so that a change of code keeps the layer
# in which all dependencies are compiled
FROM ${BUILD_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name build.rs ! -path '*/src/lib.rs' ! -path '*/src/main.rs' \
        ! -path '*/src/bin/*.rs' -delete \
    && find . -type d -empty -delete \
    && find . -name lib.rs -exec truncate -s 0 {} + \
    && find . -name '*.rs' ! -name lib.rs -exec sh -c 'for file; do echo "fn main() { }" >"$file"; done' sh {} +

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
# The cargo profile: `dev` compiles faster and runs slower.
ARG PROFILE=release
ENV CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=/target CARGO_TERM_COLOR=never
COPY --from=manifests /src .
# A folder of producers/ or consumers/ is a service of that name.
RUN cargo build --locked --profile "$PROFILE" -p carillon $(ls -d producers/* consumers/* | sed 's|.*/|-p |')
COPY . .
# The sources may be older than what was made of the empty ones; cargo goes by time.
RUN find . -name '*.rs' -exec touch {} + \
    && cargo build --locked --profile "$PROFILE" -p carillon $(ls -d producers/* consumers/* | sed 's|.*/|-p |') \
    && mkdir -p /out/usr/local/bin \
    && for name in carillon $(ls -d producers/* consumers/* | sed 's|.*/||'); do \
         install -m 0755 "/target/$(test "$PROFILE" = dev && echo debug || echo "$PROFILE")/$name" /out/usr/local/bin/ || exit 1; \
       done
# zlib is all that the services load and the base has not. Its package's entry goes along, so that scanners see it.
RUN library="/usr/lib/$(gcc -print-multiarch)" \
    && mkdir -p "/out$library" /out/var/lib/dpkg/status.d \
    && cp "$(readlink -f "$(find /lib "$library" -name 'libz.so.1' | head -n 1)")" "/out$library/libz.so.1" \
    && dpkg -s zlib1g >/out/var/lib/dpkg/status.d/zlib1g
# The same sources make the same layers, whenever they are built.
ARG SOURCE_DATE_EPOCH=0
RUN mkdir -p /out/keys && find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Carillon" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/usr /usr
COPY --from=build /out/var /var
# A named volume that is mounted here takes this owner: `carillon key` may write its key.
COPY --from=build --chown=65532:65532 /out/keys /keys
# By number: Kubernetes cannot see from a name that it is not root.
USER 65532:65532
ENV PATH=/usr/local/bin
# Asks /livez of whatever service listens on HTTP_PORT in this container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["carillon", "healthcheck"]
CMD ["carillon", "--help"]
