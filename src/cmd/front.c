/*
 * front.c - the `walagent` on the PATH: libc only, so that it starts in half a millisecond.
 *
 * Everything is passed on to the full program, walagent-main: beside this binary in a build tree,
 * in ../libexec/walagent, or where it was installed.
 */
#include "walagent/base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Replaces this process by the full program; returns only on failure. */
static void
exec_main(char **argv)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = '\0';
        setenv("WALAGENT_FRONT", self, 1);
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            WA_CLEANUP(wa_freep) char *beside = wa_format("%s/walagent-main", self);
            execv(beside, argv);
            WA_CLEANUP(wa_freep)
            char *libexec = wa_format("%s/../libexec/walagent/walagent-main", self);
            execv(libexec, argv);
        }
    }
    execv(WA_MAIN_PATH, argv);
    fprintf(stderr, "walagent: could not start \"%s\": %s\n", WA_MAIN_PATH, strerror(errno));
    fputs("HINT:  Install walagent again: the full program is missing.\n", stderr);
}

int
main(int argc, char **argv)
{
    (void)argc;
    exec_main(argv);
    return 126;
}
