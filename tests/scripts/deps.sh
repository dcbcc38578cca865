#!/bin/sh
# Installs what building, testing and the demo need. Idempotent: says "nothing to do" and
# ends within a second when all is there. It never touches the system's PAM or sudo
# configuration, and writes only packages and ./target besides. `deps.sh packages`: what building
# and judging packages needs, and nothing else.
set -eu
cd "$(dirname "$0")/../.."

PACKAGES="libpam0g-dev gcc make sudo chromium chromium-driver zbar-tools tmux pamtester
valgrind libnss3-tools fonts-dejavu-core openssl strace python3 python3-venv iproute2
procps util-linux openssh-client npm ca-certificates systemd apparmor checkpolicy semodule-utils
binutils"
[ "${1:-}" != packages ] || PACKAGES="libpam0g-dev gcc make python3 debhelper
dh-apparmor dpkg-dev fakeroot lintian man-db rpm rpmlint checkpolicy semodule-utils apparmor systemd binutils
ca-certificates"
PKILINT=0.13.3
SUDO_RS=0.2.15
# Where cargo builds, as cargo itself decides.
TARGET=${CARGO_TARGET_DIR:-target}
mkdir -p "$TARGET"
done_something=

say() { echo "deps: $*"; done_something=1; }
fail() { echo "deps: error: $*" >&2; exit 1; }

# ---- Debian packages -----------------------------------------------------------------
missing=
for package in $PACKAGES; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
# npm may also have come with another Node.js than Debian's.
if command -v npm >/dev/null 2>&1; then missing=$(echo "$missing" | sed 's/ npm\>//'); fi
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "not root; as root: apt-get install$missing"
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # A first try with the lists that are there; fresh lists only if that fails.
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $missing >"$TARGET/apt.log" 2>&1 ||
        { apt-get update -q >>"$TARGET/apt.log" 2>&1 &&
          apt-get install -y -q --no-install-recommends $missing >>"$TARGET/apt.log" 2>&1; } ||
        { tail -n 20 "$TARGET/apt.log" >&2; fail "apt-get could not install$missing"; }
fi

command -v cargo >/dev/null 2>&1 || fail "no cargo: install the Rust toolchain (rustup.rs) first"
if [ "${1:-}" = packages ]; then
    if [ -n "$done_something" ]; then echo "deps: done"; else echo "deps: nothing to do"; fi
    exit 0
fi

# ---- the certificate linter, a second opinion on what we issue -------------------------
have=$("$TARGET/venv/bin/python" -c \
    'from importlib.metadata import version; print(version("pkilint"))' 2>/dev/null || true)
if [ "$have" != "$PKILINT" ]; then
    say "pkilint $PKILINT into $TARGET/venv"
    rm -rf "$TARGET/venv"
    /usr/bin/python3 -m venv "$TARGET/venv"
    "$TARGET/venv/bin/pip" install --quiet "pkilint==$PKILINT"
fi

# ---- the test runner (plain `cargo test` does where it can't be had) -------------------
if ! cargo nextest --version >/dev/null 2>&1 && [ ! -e "$TARGET/no-nextest" ]; then
    say "cargo-nextest (some minutes, once)"
    cargo install --quiet --locked cargo-nextest >"$TARGET/nextest.log" 2>&1 || {
        say "cargo-nextest can't be built here: using cargo test"
        touch "$TARGET/no-nextest"
    }
fi

# ---- sudo-rs, the second sudo under test ------------------------------------------------
if [ "$(cat "$TARGET/sudo-rs/version" 2>/dev/null || true)" != "$SUDO_RS" ]; then
    say "sudo-rs $SUDO_RS into $TARGET/sudo-rs"
    cargo install --quiet --locked --force "sudo-rs" --version "=$SUDO_RS" \
        --root "$TARGET/sudo-rs" >"$TARGET/sudo-rs.log" 2>&1 ||
        { tail -n 20 "$TARGET/sudo-rs.log" >&2; fail "sudo-rs $SUDO_RS could not be built"; }
    echo "$SUDO_RS" >"$TARGET/sudo-rs/version"
fi

# ---- the page's type checker -------------------------------------------------------------
lock=gatewayd/web/package-lock.json
if [ -e "$lock" ] && ! cmp -s "$lock" gatewayd/web/node_modules/.installed-from; then
    say "npm ci in gatewayd/web"
    (cd gatewayd/web && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cp "$lock" gatewayd/web/node_modules/.installed-from
fi

if [ -n "$done_something" ]; then echo "deps: done"; else echo "deps: nothing to do"; fi
