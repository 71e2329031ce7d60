/*
 * walagent/base/mem.h - ownership that ends by itself.
 *
 * WA_CLEANUP(fn) runs fn on the variable's address at the end of its scope; WA_TAKE(p) hands the
 * pointer over and leaves NULL behind. Small control allocations abort when memory is exhausted;
 * what is sized by outside input goes through wa_buf (capped). Destructors accept NULL.
 *
 *     WA_CLEANUP(wa_freep) char *path = wa_format("%s/%s", dir, name);
 *     *ret_path = WA_TAKE(path);
 */
#ifndef WALAGENT_BASE_MEM_H
#define WALAGENT_BASE_MEM_H

#include "walagent/base/error.h"

#include <stddef.h>

#define WA_CLEANUP(fn) __attribute__((cleanup(fn)))
#define WA_TAKE(p)                                                                                 \
    ({                                                                                             \
        __typeof__(p) wa_take_ = (p);                                                              \
        (p) = NULL;                                                                                \
        wa_take_;                                                                                  \
    })
/* Defines static inline `name##p(type **)`, for WA_CLEANUP. */
#define WA_DEFINE_CLEANUP(type, free_fn)                                                           \
    static inline void free_fn##p(type **wa_p_)                                                    \
    {                                                                                              \
        free_fn(*wa_p_);                                                                           \
        *wa_p_ = NULL;                                                                             \
    }
#define WA_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

void *wa_malloc(size_t size); /* never NULL; aborts on exhaustion */
/* The same for megabytes that are used from end to end: in huge pages where the system has them, a
 * page fault for each 4 KiB costs more than the copy that fills it. Freed like any other. */
void *wa_malloc_large(size_t size);
/* For a process that lives for long, called before it has threads: what is freed goes back to the
 * system. Left alone, glibc takes the largest block that was ever freed for a common one, and each
 * thread's arena keeps up to twice as much for good. */
void wa_malloc_give_back(void);
/* For one that ends in a moment, called before it has threads: what is freed stays for the next
 * block of any thread, which costs neither a system call nor page faults. */
void wa_malloc_keep(void);
void *wa_calloc(size_t count, size_t size); /* zeroed, overflow-checked */
void *wa_realloc(void *p, size_t size);
void *wa_reallocarray(void *p, size_t count, size_t size);
char *wa_strdup(const char *s); /* NULL stays NULL */
char *wa_strndup(const char *s, size_t len);
void *wa_memdup(const void *p, size_t len);
/* A new string, owned by the caller. */
char *wa_format(const char *fmt, ...) WA_PRINTF(1, 2);
void wa_freep(void *p);  /* p is the address of any pointer */
void wa_closep(int *fd); /* closes a descriptor >= 0 and sets -1 */

#endif
