/*
 * walagent/base/crash.h - named places where a test build can be killed.
 *
 * In builds with WA_CRASH_POINTS the environment WALAGENT_CRASH_POINT=name[:n] makes the process
 * raise SIGKILL at the n-th pass (default the first) of that point. Elsewhere the macro is empty.
 */
#ifndef WALAGENT_BASE_CRASH_H
#define WALAGENT_BASE_CRASH_H

#if defined(WA_CRASH_POINTS) && WA_CRASH_POINTS
void wa_crash_point(const char *name);
#define WA_CRASH_POINT(name) wa_crash_point(name)
#else
#define WA_CRASH_POINT(name) ((void)0)
#endif

#endif
