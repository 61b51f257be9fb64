# syntax=docker/dockerfile:1

# One binary, no shell, no root.
#
#   docker build -t immutag .
#   docker run -p 127.0.0.1:5050:5050 -p 127.0.0.1:5051:5051 -v immutag:/var/lib/immutag immutag
#
# The volume holds the ledger: without it, every container sees each tag for the first time.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
COPY benches ./benches
COPY config ./config
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin immutag \
    && install -D target/release/immutag /out/usr/local/bin/immutag \
    && install -D -m 0644 config/container.toml /out/etc/immutag/immutag.toml \
    && install -d -o 65532 -g 65532 -m 0700 /out/var/lib/immutag

# glibc, certificates, and the user 65532 ("nonroot"); nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /
ENV IMMUTAG_CONFIG=/etc/immutag/immutag.toml
USER 65532:65532
VOLUME /var/lib/immutag
# mirror, direct, admin
EXPOSE 5050 5051 5052
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/immutag"]
CMD ["serve"]
