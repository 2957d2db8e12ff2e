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
# Linked statically with glibc; glommio does not build against musl. Naming the target keeps the
# flag away from build scripts and procedural macros.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" --bin ringside \
 && install -D -m 755 "target/$target/release/ringside" /out/ringside \
 && install -D -m 644 -t /out/licenses LICENSE LICENSE-MIT LICENSE-APACHE \
 && mkdir -p /out/config

FROM scratch
COPY --from=build /out/ /
USER 10001:10001
# config.json and core-pinning.toml are read from here; mount a folder over it.
WORKDIR /config
# HTTP playback, RTMP, status, HTTPS, WebRTC, spaces. With --network=host these lines only inform.
EXPOSE 8080/tcp 1935/tcp 4242/tcp 4433/tcp 18203/tcp 18203/udp 4000/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s --retries=3 CMD ["/ringside", "health"]
ENTRYPOINT ["/ringside"]
CMD ["serve"]
