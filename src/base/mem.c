/*
 * mem.c - allocations that succeed or abort, and the cleanup functions of plain pointers.
 */
#include "walagent/base/mem.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE (2u * 1024 * 1024)
#define OWN_MAPPING (4 * 1024 * 1024)
#define KEPT_BY_ARENA (2 * 1024 * 1024)
#define NEVER_OWN_MAPPING (32 * 1024 * 1024) /* glibc takes no more */
#define GROWS_BY (1024 * 1024)

static void *
must(void *p)
{
    if (p == NULL) {
        static const char message[] = "walagent: out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
        (void)ignored;
        abort();
    }
    return p;
}

void *
wa_malloc(size_t size)
{
    return must(malloc(size > 0 ? size : 1));
}

void *
wa_malloc_large(size_t size)
{
    void *p = NULL;
    if (size < HUGE_PAGE)
        return wa_malloc(size);
    int failed = posix_memalign(&p, HUGE_PAGE, size);
    must(failed == 0 ? p : NULL);
    (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

void
wa_malloc_give_back(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, OWN_MAPPING);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BY_ARENA);
}

void
wa_malloc_keep(void)
{
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, NEVER_OWN_MAPPING);
    (void)mallopt(M_TRIM_THRESHOLD, INT_MAX);
    (void)mallopt(M_TOP_PAD, GROWS_BY);
}

void *
wa_calloc(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    return must(calloc(count, size));
}

void *
wa_realloc(void *p, size_t size)
{
    return must(realloc(p, size > 0 ? size : 1));
}

void *
wa_reallocarray(void *p, size_t count, size_t size)
{
    if (count == 0 || size == 0)
        count = size = 1;
    return must(reallocarray(p, count, size));
}

char *
wa_strdup(const char *s)
{
    return s == NULL ? NULL : must(strdup(s));
}

char *
wa_strndup(const char *s, size_t len)
{
    return s == NULL ? NULL : must(strndup(s, len));
}

void *
wa_memdup(const void *p, size_t len)
{
    void *copy = wa_malloc(len);
    if (len > 0)
        memcpy(copy, p, len);
    return copy;
}

char *
wa_format(const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    return must(len < 0 ? NULL : text);
}

void
wa_freep(void *p)
{
    void *memory;
    memcpy(&memory, p, sizeof memory);
    free(memory);
    memory = NULL;
    memcpy(p, &memory, sizeof memory);
}

void
wa_closep(int *fd)
{
    if (*fd >= 0) {
        int saved = errno; /* the caller may still want to report it */
        close(*fd);
        errno = saved;
    }
    *fd = -1;
}
