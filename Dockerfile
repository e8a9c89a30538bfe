# An image with only the static binary, to copy into the images that agents run in (docs/ci.md).
# Nothing is installed at run time.
FROM rust:1.91.1-alpine3.22 AS build
# A C compiler and headers for SQLite and for the cryptography of TLS.
RUN apk add --no-cache build-base
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs docker-compose.yml ./
COPY .cargo .cargo
COPY benches benches
COPY convex convex
COPY deployment deployment
COPY fuzz fuzz
COPY src src
RUN cargo build --locked --release

# Brings the certificates that https needs.
FROM alpine:3.22.2
COPY --from=build /src/target/release/convex-sidecar /usr/local/bin/
RUN adduser -D -u 10001 agent
USER agent
ENTRYPOINT ["convex-sidecar"]
CMD ["--help"]
