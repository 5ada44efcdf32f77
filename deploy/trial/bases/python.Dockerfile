# Stands in for python:*-slim where no registry answers: Debian's Python in an environment of its own, first on PATH.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/python
# What this machine trusts: its registries may be mirrors with a certificate of their own.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
ENV PATH=/opt/python/bin:$PATH
