# One image with every program of Telltale; which one runs is the command. Built once, run as nobody.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace --bins \
 && mkdir -p /out/bin && find target/release -maxdepth 1 -type f -name 'telltale*' ! -name '*.d' -exec strip {} \; -exec cp {} /out/bin/ \;

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Telltale" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/bin/ /usr/local/bin/
RUN useradd --system --uid 65532 --home-dir /var/lib/telltale --create-home telltale
USER 65532:65532
WORKDIR /var/lib/telltale
ENTRYPOINT ["/usr/local/bin/telltale"]
CMD ["--help"]
