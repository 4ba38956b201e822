#!/bin/sh
''':'
# A plugin of pycni. A shell starts in a sixth of the time that Python needs. If a child of pycni's
# agent waits, it runs the request, and this shell ends as it does; pycni/launcher.py tells how they
# talk. If none does, Python runs this file, and takes all of the shell's part for a string. What is
# local here leaves Python's environment alone.

# To the child on standard output, from it on standard input; the streams themselves are 6, 7 and 8.
# Returns if it does not run the request.
hand_over() {
    local word number signal signals interrupted
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' $$ 1 '6 7 8' @NAME@ 1 @PYTHON@ @PACKAGES@
    read -r word number
    [ "$word" = taken ] && is_number "$number" || return
    signals='HUP INT QUIT USR1 USR2 ALRM TERM'
    for signal in $signals; do
        trap "interrupted=yes; kill -$signal $number" $signal
    done
    until interrupted= word= number= && read -r word number || [ -z "$interrupted" ]; do :; done
    if ! is_number "$number"; then
        printf '%s\n' '@LOST@' >&7
        exit 1
    fi
    signal=$((number & 127))
    [ $signal != 0 ] || exit $((number >> 8))
    trap - $signals
    kill -$signal $$
    exit $((128 + signal)) # it is blocked
}

is_number() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# A child is known by its pid and the time when it started, which is field 22 (proc_pid_stat(5)).
find_child() {
    local waiting pid state start fd _
    set -C # who makes a file `taken` is the only one
    for waiting in @WAITING@/*; do
        true 8>&2 2>/dev/null 6<&0 7>&1 || break # one is closed
        [ ! -e "$waiting/taken" ] || continue
        pid=${waiting##*/}
        pid=${pid%.*}
        read -r _ _ state _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ \
            2>/dev/null <"/proc/$pid/stat" || continue
        case $state$waiting in
        [RS]*/"$pid.$start") ;;
        *) continue ;; # it has ended, or it has been stopped
        esac
        fd=/proc/$pid/fd
        {
            true >"$waiting/taken" || continue
            { hand_over; break; } 6<&0 7>&1 1<>"$fd/@REQUEST@" 0<"$fd/@ANSWER@"
        } 8>&2 2>/dev/null 5<>"$fd/@LIFELINE@"
    done
}

find_child
exec @PYTHON@ -IS "$0" "$@"
'''
import sys; sys.path.append(@PACKAGES_IN_PYTHON@)
from pycni.launcher import run
run("@NAME@")
