#!/bin/sh
''':'
# A plugin of pycni. A shell starts in a fifth of the time that Python needs. If a child of pycni's
# agent waits, it runs the request, and this shell ends as it does; cni/launcher.py tells how they
# talk. If none does, Python runs this file, and takes all of the shell's part for a string.
name=@NAME@
python=@PYTHON@
packages=@PACKAGES@

signals='HUP INT QUIT USR1 USR2 ALRM TERM'

# To the child on standard output, from it on standard input; the streams themselves are 6, 7 and 2.
# Returns if it does not run the request.
hand_over() {
    printf '%s\n' $$ 1 '6 7 2' $name 1 "$python" "$packages"
    read -r taken
    [ "$taken" ] || return
    for signal in $signals; do
        trap "interrupted=yes; kill -$signal $taken 2>/dev/null" $signal
    done
    until interrupted= && read -r status || [ -z "$interrupted" ]; do :; done
    if [ -z "$status" ]; then
        printf '%s\n' '@LOST@' >&7
        exit 1
    fi
    number=$((status & 127))
    [ $number != 0 ] || exit $((status >> 8))
    trap - $signals
    kill -$number $$
    exit $((128 + number)) # that signal is blocked
}

set -C # who makes a file `taken` is the only one
for waiting in /run/pycni/waiting/*; do
    true 2>/dev/null 6<&0 7>&1 || break # one is closed
    child=${waiting##*/}
    read -r pid comm state rest 2>/dev/null <"/proc/$child/stat" || continue
    case $comm$state in
    '(@STANDBY@)'[RSD]) ;;
    *) continue ;; # it has been killed, or stopped
    esac
    fd=/proc/$child/fd
    {
        true 2>/dev/null >"$waiting/taken" || continue
        { hand_over; break; } 6<&0 7>&1 1<>"$fd/@REQUEST@" 0<"$fd/@ANSWER@"
    } 5<>"$fd/@LIFELINE@"
done
exec "$python" -IS "$0" "$@"
'''
import sys; sys.path.append(@PACKAGES_IN_PYTHON@)
from cni.launcher import run
run("@NAME@")
