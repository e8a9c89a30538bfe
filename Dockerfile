# The binary alone, static, for images in which agents run: docs/ci.md shows how it gets there. Nothing is installed at run time.
FROM rust:1.91.1-alpine3.22 AS build
# Headers and a C compiler for SQLite and for the cryptography of TLS.
RUN apk add --no-cache build-base
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs docker-compose.yml ./
COPY .cargo .cargo
COPY benches benches
COPY convex convex
COPY deployment deployment
COPY src src
RUN cargo build --locked --release

# It brings the certificates that https is checked with.
FROM alpine:3.22.2
COPY --from=build /src/target/release/convex-sidecar /usr/local/bin/
RUN adduser -D -u 10001 agent
USER agent
ENTRYPOINT ["convex-sidecar"]
CMD ["--help"]
