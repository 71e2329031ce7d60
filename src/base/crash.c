/*
 * crash.c - kill the process at a named place (test builds only).
 */
#include "walagent/base/crash.h"

#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_ulong passes;

void
wa_crash_point(const char *name)
{
    const char *wanted = getenv("WALAGENT_CRASH_POINT");
    if (wanted == NULL)
        return;
    size_t len = strcspn(wanted, ":");
    if (strlen(name) != len || strncmp(wanted, name, len) != 0)
        return;
    unsigned long at = wanted[len] == ':' ? strtoul(wanted + len + 1, NULL, 10) : 1;
    if (atomic_fetch_add(&passes, 1) + 1 == at)
        kill(getpid(), SIGKILL);
}

#endif
