# syntax=docker/dockerfile:1
#
#   docker build -t ringside .
#   docker run --network=host --security-opt seccomp=deploy/seccomp.json \
#     --ulimit memlock=-1 --ulimit nofile=1048576 ringside demo
#
# deploy/README.md says what each option is for.

FROM rust:1.95-slim-bookworm AS build
# glommio builds its own liburing, with make, and asks git for a version.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc git libc6-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin ringside \
 && install -D -m 755 target/release/ringside /out/usr/local/bin/ringside \
 && install -D -m 644 LICENSE /out/usr/share/doc/ringside/LICENSE

# The same Debian release as the build stage, because the binary uses its C library.
FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/ringside --create-home --shell /usr/sbin/nologin ringside
COPY --from=build /out/ /
USER 10001:10001
# config.json is read from here; mount a folder over it.
WORKDIR /var/lib/ringside
# HTTP playback, RTMP, status. With --network=host these lines only inform.
EXPOSE 8080/tcp 1935/tcp 4242/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s --retries=3 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4242 && printf 'GET /healthz HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["ringside"]
CMD ["serve", "-c", "config.json"]
