# Stands in for distroless/cc where no registry answers. Made as that one is: unpacked packages, no shell, nothing that was run.
ARG DEBIAN_IMAGE
FROM ${DEBIAN_IMAGE} AS unpacked
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && mkdir /packages /root-of-image
WORKDIR /packages
RUN apt-get download base-files netbase tzdata libc6 libgcc-s1 libssl3t64 \
    && for package in *.deb; do dpkg --extract "$package" /root-of-image; done \
    && rm -rf /root-of-image/usr/share/doc /root-of-image/usr/share/man /root-of-image/usr/share/locale \
    && install -D /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ca-certificates.crt \
    && printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > /root-of-image/etc/passwd \
    && printf 'root:x:0:\nnonroot:x:65532:\n' > /root-of-image/etc/group \
    && install -d -m 1777 /root-of-image/tmp && install -d -o 65532 -g 65532 -m 700 /root-of-image/home/nonroot

FROM scratch
COPY --from=unpacked /root-of-image/ /
USER 65532:65532
