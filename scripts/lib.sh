# What the scripts here share; sourced, not run.

say() { printf '    %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# The same folder that the sandbox uses (crates/larder-sandbox/src/cache.rs).
cache_dir() {
    if [ -n "${LARDER_CACHE_DIR:-}" ]; then printf '%s\n' "$LARDER_CACHE_DIR"
    elif [ "$(id -u)" = 0 ]; then printf '/var/cache/larder\n'
    elif [ -n "${XDG_CACHE_HOME:-}" ]; then printf '%s/larder\n' "$XDG_CACHE_HOME"
    else printf '%s/.cache/larder\n' "${HOME:?}"
    fi
}

# Sets the array PIP to a pip that works; fails if there is none.
find_pip() {
    local candidate
    for candidate in 'python3 -m pip' 'pip3' 'pip'; do
        read -ra PIP <<<"$candidate"
        if "${PIP[@]}" --version >/dev/null 2>&1; then return 0; fi
    done
    PIP=()
    return 1
}

# download_wheel NAME VERSION: leaves the wheel in the cache folder, if it is not there already, and sets WHEEL to it.
download_wheel() {
    local name=$1 version=$2 wheels
    wheels=$(cache_dir)/wheels
    mkdir -p "$wheels"
    if WHEEL=$(wheel_in "$wheels" "$name" "$version"); then return 0; fi
    if ! find_pip; then
        die "no pip to download $name $version with. Install it (Debian, Ubuntu: apt-get install python3-pip), or put" \
            "the wheel of $name $version into $wheels by hand."
    fi
    say "downloading $name $version"
    # Into a folder of its own first: a download that is cut short leaves nothing behind under the final name.
    local part
    part=$(mktemp -d "$wheels/.part-XXXXXX")
    # A root account's umask may be strict, but its servers run under another account.
    if ! (umask 022 && "${PIP[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --dest "$part" "$name==$version"); then
        rm -rf "$part"
        die "cannot download $name $version: see pip's message above. There is a wheel for Linux (x86_64, aarch64) and" \
            "macOS; an old pip (before 20.3) does not recognise it."
    fi
    mv "$part"/*.whl "$wheels/"
    rm -rf "$part"
    WHEEL=$(wheel_in "$wheels" "$name" "$version") || die "pip downloaded $name under an unexpected name into $wheels"
}

# The wheel in a folder: its name has _ where the package's has -.
wheel_in() {
    local found
    for found in "$1/${2//-/_}-$3"-*.whl; do
        if [ -f "$found" ]; then printf '%s\n' "$found"; return 0; fi
    done
    return 1
}

# make_folder PATH FUNCTION: the function fills a new folder, which then gets its name.
make_folder() {
    PART=$(mktemp -d "$1.XXXXXX")
    trap 'rm -rf "$PART"; die "cannot make ${PART%.*}: see above"' EXIT
    "$2" "$PART"
    chmod -R a+rX "$PART"
    mv -T "$PART" "$1" 2>/dev/null || rm -rf "$PART"
    trap - EXIT
}

version_of() {
    { cat "$1"; printf '%s' "${2:-}"; } | sha256sum | cut -c1-12
}

# Packages of the distribution.
can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

install_packages() {
    say "installing $* (apt-get)"
    local run=(env DEBIAN_FRONTEND=noninteractive apt-get)
    [ "$(id -u)" = 0 ] || run=(sudo -n "${run[@]}")
    # The package lists of a fresh machine are missing or out of date.
    "${run[@]}" install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    "${run[@]}" update -qq
    "${run[@]}" install -qq -y --no-install-recommends "$@" >/dev/null
}
