/*
 * tests/unit/support/page_cache.h - which of a file's pages are in the page cache.
 */
#ifndef WA_TESTS_PAGE_CACHE_H
#define WA_TESTS_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>

/* Of the first `size` bytes. Aborts when nobody can tell. */
size_t pages_in_cache(int fd, size_t size);
bool page_is_in_cache(int fd, size_t at);
/* Are pages seen, and do they go when they are no longer needed? (Those of tmpfs are the file
 * itself.) */
bool page_cache_lets_go(const char *dir);

#endif
