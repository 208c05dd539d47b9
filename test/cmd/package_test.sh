#!/usr/bin/env bash
# The Debian package that cpack makes of this build: what it holds and what it says of itself.
source "$(dirname "$0")/lib.sh"
build=$(dirname "$qtool")
for tool in cpack dpkg-deb dpkg-shlibdeps; do
  command -v "$tool" >/dev/null || { echo "SKIPPED: no $tool"; exit 77; }
done
[[ -e $build/documents/qtool.1 ]] || { echo "SKIPPED: $build has not built qtool_documents"; exit 77; }

said="cpack -G DEB"
(cd "$build" && cpack -G DEB -B "$work/packed") >"$work/out" 2>"$work/err" || complain "$said: $(tail -n 5 "$work/err")"
package=$(echo "$work"/packed/*.deb)
[[ -s $package ]] || { complain "$said made no package: $(cat "$work/out")"; finish; }

said="dpkg-deb --contents"
dpkg-deb --contents "$package" >"$work/out"
for file in bin/qtool share/qtool/demo/model.safetensors share/qtool/demo/tokenizer.model \
  share/bash-completion/completions/qtool share/zsh/vendor-completions/_qtool \
  share/fish/vendor_completions.d/qtool.fish share/man/man1/qtool.1 share/doc/qtool/copyright; do
  out_has " ./usr/$file"
done
! grep -vE '^(d|-)r[w-][x-]r-[x-]r-[x-] root/root ' "$work/out" || complain "$said: odd owners or modes"

said="dpkg-deb --field"
dpkg-deb --field "$package" >"$work/out"
grep -qE '^Package: qtool(-cuda)?$' "$work/out" || complain "$said: $(head -n 1 "$work/out")"
out_has "Version: $("$qtool" --version | cut -d' ' -f2)"
out_has "Maintainer: qtool developers"
out_has "Section: science"
for library in libc6 libcurl4 libpcre2-8-0 libsentencepiece0 libspdlog1 libutf8proc2 libgomp1; do out_has "$library"; done

said="the packed program"
dpkg-deb --extract "$package" "$work/system"
"$work/system/usr/bin/qtool" doctor --json >"$work/out" 2>"$work/err" || complain "$said: $(cat "$work/err")"
json 'd["demo"].endswith("/system/usr/share/qtool/demo")'

finish
