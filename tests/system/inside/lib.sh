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

# ---- Twinlock ---------------------------------------------------------------------------

NEW=/tl/debs/new OLD=/tl/debs/old
HOST_PACKAGES="twinlock libpam-twinlock twinlock-agent"
ALL_PACKAGES="$HOST_PACKAGES twinlock-gatewayd"
export DEBIAN_FRONTEND=noninteractive

# DIRECTORY PACKAGE...: the files of these packages.
debs() {
    local dir=$1 package; shift
    for package; do ls "$dir/$package"_*.deb; done
}
# DIRECTORY PACKAGE...: as an administrator installs files.
install_debs() {
    # shellcheck disable=SC2046
    apt-get install -y -q --allow-downgrades --no-install-recommends $(debs "$@")
}
# As the documentation says: announcement, ceremony, configuration, join. Everything on one host.
init_gateway() { # ANNOUNCEMENT...: the hosts of the first roster; leaves tokens in /tl/shared/tokens
    local hosts=() file
    for file; do hosts+=(--host "$file"); done
    mkdir -p "$PHONES"
    twinlock-softphone tls /etc/twinlock tl.example.org
    cp /etc/twinlock/ca.der "$PHONES/ca.der"
    chown twinlock-gateway /etc/twinlock/web.crt /etc/twinlock/web.key
    chmod 0600 /etc/twinlock/web.key
    twinlock-softphone init "$PHONES" "$PHONES/ca.der" 10.77.0.1:443 -- twinlock init \
        --origin https://tl.example.org --tls-cert /etc/twinlock/web.crt --tls-key /etc/twinlock/web.key \
        --listen 0.0.0.0:443 --gateway tl.example.org:8444 "${hosts[@]}" \
        --person alice=Alice:alice:requester --person bob=Bob:bob:approver --person carol=Carol:carol:approver \
        --person dave=Dave:dave:approver >/tl/shared/tokens
    cp /var/lib/twinlock-gateway/roster.json "$PHONES/roster.json"
    cp /var/lib/twinlock-gateway/roster.json /tl/shared/roster.json
    cp -r "$PHONES" /tl/shared/phones
    cat >/etc/twinlock/gateway.toml <<TOML
origin = "https://tl.example.org"
[approver]
listen = "0.0.0.0:443"
tls_cert = "/etc/twinlock/web.crt"
tls_key = "/etc/twinlock/web.key"
[agents]
listen = "0.0.0.0:8444"
[limits]
requests_per_person = 600
calls_per_approver = 600
[audit]
json_lines = "/var/log/twinlock/audit.jsonl"
TOML
    systemctl enable --now twinlock-gatewayd.socket twinlock-gatewayd.service
    eventually 20 systemctl is-active twinlock-gatewayd.service
}
join_host() {
    local token
    token=$(sed -n "s/^token $(hostname) //p" /tl/shared/tokens)
    twinlock host join --roster /tl/shared/roster.json "$token"
    # A test asks more often than a person.
    printf '[limits]\nrequests_per_minute = 600\n' >>/etc/twinlock/agent.toml
    systemctl enable --now twinlock-reaper.socket twinlock-reaper-user.socket twinlock-agent.socket
    systemctl enable --now twinlock-reaper.service twinlock-agent.service
    eventually 20 systemctl is-active twinlock-reaper.service
    eventually 20 systemctl is-active twinlock-agent.service
}
set_up_everything() {
    # shellcheck disable=SC2086
    install_debs "$NEW" $ALL_PACKAGES
    twinlock host prepare --name "$(hostname)" --out /tmp/announcement.json
    init_gateway /tmp/announcement.json
    join_host
}
# SERVICE...: the marked blocks in these stacks, as `twinlock enable` writes them (it has a suite of its own).
wire() {
    local service
    for service; do
        {
            printf '# >>> twinlock\naccount    required   pam_twinlock.so\n# <<< twinlock\n'
            cat "/etc/pam.d/$service"
            printf '# >>> twinlock\nsession    required   pam_twinlock.so\n# <<< twinlock\n'
        } >"/etc/pam.d/.$service.new"
        mv "/etc/pam.d/.$service.new" "/etc/pam.d/$service"
    done
}
wired() { grep -qs pam_twinlock /etc/pam.d/sudo; }
module() { ls /usr/lib/*/security/pam_twinlock.so 2>/dev/null; }

# [OPTION...] -- COMMAND...: alice's sudo with her password and what the options say.
elevate() {
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    alice --type "assword=$PASSWORD" "${options[@]}" -- sudo -k "$@"
}
two_approvals_work() {
    elevate --approve bob,carol -- id -un >/tmp/elevated 2>&1 || { cat /tmp/elevated; fail "two approvals do not let sudo run"; }
    grep -q '^root' /tmp/elevated || { cat /tmp/elevated; fail "the command did not run"; }
}
password_alone_is_refused() {
    # Nobody scans; alice gives up.
    if elevate --limit 40 --type "two approvers needed=$(printf '\003')" -- id -un >/tmp/refused 2>&1; then
        cat /tmp/refused; fail "sudo ran without approvals"
    fi
    holds "two approvers needed" /tmp/refused
    ! grep -q '^root' /tmp/refused || { cat /tmp/refused; fail "the command ran without approvals"; }
}
# NAME [OPTION...] -- COMMAND...: the same in the background; `outcome NAME` waits and gives its code.
elevate_later() {
    local name=$1; shift
    rm -f "/tmp/later.$name" "/tmp/later.$name.code"
    # A service of its own: what a test starts must outlive the test's shell.
    (set +e; elevate "$@" >"/tmp/later.$name" 2>&1; echo $? >"/tmp/later.$name.code") </dev/null &
    disown
}
outcome() { eventually "${2:-60}" test -s "/tmp/later.$1.code"; cat "/tmp/later.$1.code"; }
# TEXT: the grant of the newest command that holds it.
grant_of() { twinlock grants --json | tr '{' '\n' | grep -F -- "$1" | grep -o '"grant": *"[^"]*"' | head -n 1 | cut -d'"' -f4; }
gateway_log() { cat /var/log/twinlock/audit.jsonl; }

# ---- what authentication is made of ---------------------------------------------------

# Every byte, mode and owner of what decides who becomes root.
authentication() {
    # Backups that pam-auth-update makes decide nothing.
    find /etc/pam.d /etc/pam.conf /etc/sudoers /etc/sudoers.d /etc/sudo.conf /etc/sudoers-rs /usr/share/pam-configs \
        /etc/security /etc/nsswitch.conf /etc/ssh/sshd_config /etc/ssh/sshd_config.d /etc/polkit-1 \
        ! -name '*.pam-old' \( -type d -printf '%p %m %U:%G\n' -o -type l -printf '%p -> %l\n' -o -type f -printf '%p %m %U:%G ' \
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
    alice --limit 40 --type "assword=$PASSWORD" -- sudo -k id -un </dev/null >/tmp/sudo 2>&1
}
sudo_works_alone() { sudo_alone || { cat /tmp/sudo; fail "sudo does not work by password alone"; }; grep -q '^root' /tmp/sudo || { cat /tmp/sudo; fail "sudo did not run the command"; }; }
su_works_alone() {
    alice --limit 40 --type "assword: =$PASSWORD" -- su -c "'id -un'" >/tmp/su 2>&1 || { cat /tmp/su; fail "su does not work"; }
    grep -q '^root' /tmp/su || { cat /tmp/su; fail "su did not run the command"; }
}
everything_works_alone() { console_works; sudo_works_alone; su_works_alone; }

# Whatever happened to the packages: sudo is neither open nor locked, the console and su work, and a stack
# that does not name the module is what it was before (M8).
neither_open_nor_locked() { # NAME of what was remembered before
    console_works
    su_works_alone
    if wired; then
        [ -n "$(module)" ] || fail "a stack names a module that is gone"
        password_alone_is_refused
        two_approvals_work
    else
        unchanged_since "$1"
        sudo_works_alone
    fi
}

# ---- break-glass --------------------------------------------------------------------------

# bob and carol get a key each, two people sign them into the roster, and the host has it.
make_break_glass_keys() {
    local person key
    mkdir -p -m 700 /root/keys
    for person in bob carol; do
        twinlock break-glass keygen --person "$person" --out "/root/keys/$person" >"/tmp/keygen.$person"
        key=$(sed -n 's/^public: //p' "/tmp/keygen.$person")
        twinlock break-glass key add "$person" "$key"
        twinlock-softphone sign "$PHONES" bob,carol
    done
    eventually 20 eval 'twinlock break-glass status | grep -qi carol'
}
# PERSON: what answers the challenge on the terminal, for --answer.
answer_of() {
    echo "awk '/-----BEGIN TWINLOCK/{b=\"\"} {b=b \$0 \"\\n\"} /-----END TWINLOCK/{last=b} END{printf \"%s\", last}' >/tmp/challenge; echo yes | twinlock approve --offline --key /root/keys/$1 --challenge /tmp/challenge 2>/tmp/approve.$1"
}
drill() {
    twinlock-softphone run "$PHONES" --answer "answer 1 of 2:=$(answer_of bob)" --answer "answer 2 of 2:=$(answer_of carol)" \
        -- twinlock break-glass drill
}

# ---- enabling -----------------------------------------------------------------------------

# SERVICE [OPTION...]: root enables it at the console; returns at once.
enable() {
    twinlock-softphone run "$PHONES" --console --limit 120 --type "assword: =$PASSWORD" \
        --type "# =twinlock enable $* --yes --no-wait --as alice; echo ended with \$?; exit" -- login root
}
# The lines are there for good: confirmed by an elevation from another login.
enable_for_good() {
    enable "$1" >/tmp/enable 2>&1
    holds "ended with 0" /tmp/enable
    # Open until the watcher has seen from which login it came.
    case $1 in
        sudo) elevate --approve bob,carol -- sleep 4 >/tmp/confirm 2>&1 || { cat /tmp/confirm; fail "no elevation to confirm with"; } ;;
        su) alice --type "assword: =$PASSWORD" --approve bob,carol -- su -c "'sleep 4'" >/tmp/confirm 2>&1 || { cat /tmp/confirm; fail "no su to confirm with"; } ;;
    esac
    eventually 20 eval '! twinlock enable --status | grep -qi "left"'
    twinlock enable --status
}
