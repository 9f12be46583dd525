# One image with every program of Telltale; which one runs is the command. Built once, run as nobody.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace --bins \
 && mkdir -p /out/bin && find target/release -maxdepth 1 -type f -name 'telltale*' ! -name '*.d' -exec strip {} \; -exec cp {} /out/bin/ \;

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Telltale" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/bin/ /usr/local/bin/
# The folders are mount points of volumes, which get their owner and mode from here.
RUN groupadd --gid 65532 telltale \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /var/lib/telltale --shell /usr/sbin/nologin telltale \
 && install -d -m 0711 -o 65532 -g 65532 /var/lib/telltale /var/lib/telltale/.telltale \
 && install -d -m 0700 -o 65532 -g 65532 /var/lib/telltale/.telltale/nats /var/lib/telltale/.telltale/database
USER 65532:65532
WORKDIR /var/lib/telltale
ENTRYPOINT ["/usr/local/bin/telltale"]
CMD ["--help"]
