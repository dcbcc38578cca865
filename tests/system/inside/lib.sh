# What the suites share. Sourced by inside/run on the booted system, as root, under bash.
# Names that begin with an underscore, and everything in this file, are no tests.

PHONES=/var/lib/tl/phones
PASSWORD=tell-nobody
SSH="ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/tl/bin

fail() { echo "FAILED: $*"; exit 1; }
note() { echo "# $*"; echo "# $*" >>/tl/out/tap; }
# The command must fail.
refused() { if "$@"; then fail "should have been refused: $*"; fi; }
# SECONDS COMMAND...: becomes true in time.
eventually() {
    local until=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || { "$@"; fail "not in time: $*"; }
        sleep 0.1
    done
}
# TEXT FILE: FILE holds TEXT.
holds() { grep -qF -- "$1" "$2" || { echo "--- $2"; cat "$2"; fail "$2 does not hold: $1"; }; }
lacks() { ! grep -qF -- "$1" "$2" || { echo "--- $2"; cat "$2"; fail "$2 holds: $1"; }; }
debian() { . /etc/os-release; echo "$VERSION_ID"; }
reboot_now() { sync; touch /run/tl-reboot; }

# alice may use sudo; bob, carol and dave have phones; everybody has a password, and alice a key.
make_people() {
    local name
    for name in alice bob carol dave; do
        useradd -m -s /bin/bash "$name"
        echo "$name:$PASSWORD" | chpasswd
    done
    echo "root:$PASSWORD" | chpasswd
    printf 'alice ALL=(ALL:ALL) ALL\n' >/etc/sudoers.d/alice
    chmod 0440 /etc/sudoers.d/alice
    mkdir -p -m 700 /root/.ssh /home/alice/.ssh
    ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
    cp /root/.ssh/id_ed25519.pub /home/alice/.ssh/authorized_keys
    chown -R alice: /home/alice/.ssh
    # sudo lectures everybody once.
    mkdir -p -m 700 /var/lib/sudo/lectured
    touch /var/lib/sudo/lectured/alice
}

# [OPTION...] -- COMMAND...: alice runs it in a login session of her own, on a terminal.
alice() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    twinlock-softphone run "$PHONES" "${options[@]}" -- $SSH -tt alice@localhost -- "$@"
}

# ---- what authentication is made of ---------------------------------------------------

# Every byte, mode and owner of what decides who becomes root.
authentication() {
    find /etc/pam.d /etc/pam.conf /etc/sudoers /etc/sudoers.d /etc/sudo.conf /etc/sudoers-rs /usr/share/pam-configs \
        /etc/security /etc/nsswitch.conf /etc/ssh/sshd_config /etc/ssh/sshd_config.d /etc/polkit-1 \
        \( -type d -printf '%p %m %U:%G\n' -o -type l -printf '%p -> %l\n' -o -type f -printf '%p %m %U:%G ' \
        -exec sha256sum {} \; \) 2>/dev/null | sort
}
remember() { authentication >"/var/lib/tl/authentication.$1"; }
unchanged_since() {
    authentication | diff -u "/var/lib/tl/authentication.$1" - || fail "authentication changed since $1"
}

# ---- the ways in, each tried for real ---------------------------------------------------

# root on the console, with the password alone: always open (README: the way out).
console_works() {
    twinlock-softphone run "$PHONES" --console --limit 40 --type "assword: =$PASSWORD" --type '# =id -un; exit' \
        -- login root >/tmp/console 2>&1 || { cat /tmp/console; fail "no console login"; }
    holds root /tmp/console
}
# alice's sudo with her password alone; with sudo-rs as well where it is there.
sudo_alone() {
    alice --limit 40 --type "assword=$PASSWORD" -- sudo -k -S id -un </dev/null >/tmp/sudo 2>&1
}
sudo_works_alone() { sudo_alone || { cat /tmp/sudo; fail "sudo does not work by password alone"; }; grep -q '^root' /tmp/sudo || { cat /tmp/sudo; fail "sudo did not run the command"; }; }
su_works_alone() {
    alice --limit 40 --type "assword: =$PASSWORD" -- su -c "'id -un'" >/tmp/su 2>&1 || { cat /tmp/su; fail "su does not work"; }
    grep -q '^root' /tmp/su || { cat /tmp/su; fail "su did not run the command"; }
}
everything_works_alone() { console_works; sudo_works_alone; su_works_alone; }
