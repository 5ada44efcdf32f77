# Stands in for rust:*-slim where no registry answers: Debian, a C compiler, and the toolchain of this machine.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev ca-certificates && rm -rf /var/lib/apt/lists/*
# What this machine trusts: its registries may be mirrors with a certificate of their own.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/toolchain/bin:$PATH
COPY toolchain /usr/local/toolchain
