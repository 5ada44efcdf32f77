#!/bin/sh
# Copies client programs of a Postgres image, with the libraries they link, into a directory: collect-programs.sh INTO PROGRAM...
# Glibc's own libraries are left out; they are those of the image that the directory goes into.
set -eu
into="$1"
shift
bin="$(pg_config --bindir 2>/dev/null || dirname "$(find /usr/lib/postgresql -name psql | sort -V | tail -n 1)")"
for program in "$@"; do
  install -D "$bin/$program" "$into$bin/$program"
  # "libpq.so.5 => /lib/x86_64-linux-gnu/libpq.so.5 (0x…)": below /usr, whatever link the loader came by.
  ldd "$bin/$program" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do
    case "${library##*/}" in
      libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | libresolv.so.* | ld-linux*) continue ;;
    esac
    install -D "$(readlink -f "$library")" "$into/usr/lib/$(basename "$(dirname "$library")")/${library##*/}"
  done
done
