"""An optional warm process, which runs requests without the start-up of an interpreter.

    server    accepts launchers, forks for each, sees to their ends; the executable's `main`
    child     the forked process: becomes what the launcher would have been, and runs the plugin
    caller    what a process has from its parent, looked up in /proc
    memory    a child's pages, copied before they are needed
    warmth    what is imported ahead, and whether it is still what is installed
    systemd   socket activation, notification, watchdog

There is no state but who is running. A child is a copy of an interpreter that has run nothing yet,
and it runs what a fresh one would. The launcher's side is `pycni.launcher`.
"""
