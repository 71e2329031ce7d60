/*
 * tests/unit/support/page_cache.c - asks mincore.
 */
#include "page_cache.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void
must(bool so, const char *what)
{
    if (so)
        return;
    perror(what);
    abort();
}

static size_t
count_pages(int fd, off_t at, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page, count = 0;
    unsigned char *resident = calloc(pages, 1);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, at);
    must(map != MAP_FAILED, "mmap");
    must(mincore(map, size, resident) == 0, "mincore");
    for (size_t i = 0; i < pages; i++)
        count += resident[i] & 1;
    munmap(map, size);
    free(resident);
    return count;
}

size_t
pages_in_cache(int fd, size_t size)
{
    return count_pages(fd, 0, size);
}

bool
page_is_in_cache(int fd, size_t at)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return count_pages(fd, (off_t)(at - at % page), page) > 0;
}

bool
page_cache_lets_go(const char *dir)
{
    char page[4096] = "";
    char path[256];
    snprintf(path, sizeof path, "%s/page-XXXXXX", dir);
    int fd = mkstemp(path);
    must(fd >= 0 && unlink(path) == 0, "mkstemp");
    must(pwrite(fd, page, sizeof page, 0) == sizeof page && fsync(fd) == 0, "write");
    bool gone = page_is_in_cache(fd, 0) && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 &&
                !page_is_in_cache(fd, 0);
    close(fd);
    return gone;
}
