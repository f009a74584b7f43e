/**
 * The first program of a guest. It mounts what every program expects, loads the modules that `lib/modules/order` lists, runs
 * `/start.sh` if there is one, and then does what comes over the second serial port, see `GuestShell`. With `pinion.shell` on the
 * kernel's command line it gives a person a shell on the console instead.
 */
export const GUEST_INIT = `#!/bin/sh
export PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp TERM=dumb
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /tmp
while read -r name parameters; do
  insmod "/lib/modules/$name.ko" $parameters || echo "module $name could not be loaded"
done </lib/modules/order
if [ -e /start.sh ]; then sh /start.sh; fi
if grep -q pinion.shell /proc/cmdline; then
  echo "A shell of the guest. 'poweroff -f' ends it."
  setsid cttyhack sh
  poweroff -f
fi
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
read -r up rest </proc/uptime
printf '@ready %s %s\\n' "$(uname -r)" "$up" >&3
: >/tmp/.code
while IFS= read -r line <&3; do
  case $line in
  +*) printf %s "\${line#+}" >>/tmp/.code ;;
  !*)
    base64 -d </tmp/.code >/tmp/.command
    : >/tmp/.code
    sh /tmp/.command </dev/null >/tmp/.output 2>&1 3>&-
    status=$?
    printf '@done %s %s %s\\n' "\${line#!}" "$status" "$(stat -c %s /tmp/.output)" >&3
    cat /tmp/.output >&3
    ;;
  esac
done
`;
